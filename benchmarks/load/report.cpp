#include "report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace load {

uint64_t Histogram::upper_edge(size_t bucket) {
    if (bucket < 2 * kSteps) return bucket;
    size_t shift = bucket / kSteps - 1;
    uint64_t step = bucket - shift * kSteps;
    return ((step + 1) << shift) - 1;
}

void Histogram::add(const Histogram &other) {
    for (size_t i = 0; i < counts_.size(); i++) counts_[i] += other.counts_[i];
    total_ += other.total_;
    max_ = std::max(max_, other.max_);
}

uint64_t Histogram::percentile(double share) const {
    if (!total_) return 0;
    auto wanted = static_cast<uint64_t>(std::ceil(share * static_cast<double>(total_)));
    uint64_t seen = 0;
    for (size_t i = 0; i < counts_.size(); i++) {
        seen += counts_[i];
        if (seen >= std::max<uint64_t>(wanted, 1)) return std::min(upper_edge(i), max_);
    }
    return max_;
}

void Report::put(std::string_view name, const std::string &value) {
    if (!fields_.empty()) fields_ += ", ";
    fields_ += '"';
    fields_ += name;
    fields_ += "\": ";
    fields_ += value;
}

void Report::add(std::string_view name, double value) {
    char text[40];
    snprintf(text, sizeof(text), "%.6g", value);
    put(name, std::isfinite(value) ? text : "null");
}

void Report::add(std::string_view name, std::string_view value) {
    std::string quoted = "\"";
    for (char c : value) {
        if (c == '"' || c == '\\') quoted += '\\';
        if (static_cast<unsigned char>(c) >= 0x20) quoted += c;
    }
    put(name, quoted + '"');
}

void Report::add_latency(std::string_view name, const Histogram &histogram) {
    auto us = [](uint64_t ns) { return static_cast<double>(ns) / 1e3; };
    Report latency;
    latency.add("samples", histogram.count());
    latency.add("p50", us(histogram.percentile(0.50)));
    latency.add("p90", us(histogram.percentile(0.90)));
    latency.add("p95", us(histogram.percentile(0.95)));
    latency.add("p99", us(histogram.percentile(0.99)));
    latency.add("p99.9", us(histogram.percentile(0.999)));
    latency.add("max", us(histogram.max()));
    add(name, latency);
}

void Report::add_cpu(std::string_view name, const CpuTime &before, const CpuTime &after, uint64_t count,
                     double seconds) {
    double user = after.user - before.user, system = after.system - before.system;
    double events = static_cast<double>(count);
    Report cpu;
    cpu.add("user_us", user / events * 1e6);
    cpu.add("system_us", system / events * 1e6);
    cpu.add("core_share", (user + system) / seconds);
    cpu.add("waiting_share", (after.waited - before.waited) / seconds);
    add(name, cpu);
}

void Report::print() const { printf("{%s}\n", fields_.c_str()); }

}  // namespace load
