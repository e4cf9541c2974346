// The JSON object that a run prints, and the histogram behind its latencies.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "process.h"

namespace load {

// Log-linear: 128 steps in every power of two, so a figure is at most 0.8 % off; 0 to 2^40 ns (18 minutes). 36 KiB, however
// many samples there are.
class Histogram {
  public:
    void add(uint64_t ns) {
        counts_[bucket(ns)]++;
        total_++;
        if (ns > max_) max_ = ns;
    }
    void add(const Histogram &other);
    uint64_t count() const { return total_; }
    uint64_t max() const { return max_; }
    // The upper edge of the bucket that holds that share (0..1) of the samples; 0 without samples.
    uint64_t percentile(double share) const;

  private:
    static constexpr int kBits = 7, kSteps = 1 << kBits, kPowers = 40;
    static size_t bucket(uint64_t ns) {
        if (ns < kSteps) return ns;
        int shift = std::bit_width(ns) - 1 - kBits;
        if (shift > kPowers - kBits) return kSteps * (kPowers - kBits + 2) - 1;
        return static_cast<size_t>(kSteps) * static_cast<size_t>(shift) + (ns >> shift);
    }
    static uint64_t upper_edge(size_t bucket);
    std::array<uint64_t, kSteps *(kPowers - kBits + 2)> counts_{};
    uint64_t total_ = 0, max_ = 0;
};

class Report {
  public:
    void add(std::string_view name, double value);
    void add(std::string_view name, std::string_view value);
    void add(std::string_view name, const char *value) { add(name, std::string_view(value)); }
    template <typename T>
        requires std::is_integral_v<T>
    void add(std::string_view name, T value) {
        put(name, std::to_string(value));
    }
    void add(std::string_view name, const Report &value) { put(name, "{" + value.fields_ + "}"); }

    void add_latency(std::string_view name, const Histogram &histogram);  // in microseconds
    // CPU time between two readings, divided by `count` events, in microseconds; the share of one core, and of the time
    // in which a thread was ready but had none: with the two together near 1 for each thread, it was never idle.
    void add_cpu(std::string_view name, const CpuTime &before, const CpuTime &after, uint64_t count, double seconds);
    void print() const;

  private:
    void put(std::string_view name, const std::string &value);
    std::string fields_;
};

}  // namespace load
