// The threads of a run, and what it measures with. Each member has a loop and clients of its own; the phase is common.
#pragma once

#include <atomic>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <stdexcept>

#include "wire/client.h"
#include "options.h"
#include "process.h"
#include "report.h"

namespace load {

// The counted part of a run.
struct Measured {
    double seconds = 0;
    CpuTime server_before, server_after, own_before, own_after;
    // "seconds", what was counted, its rate, and CPU for each.
    void report(Report &report, const Options &options, const char *what, uint64_t count) const;
};

class Crew {
  public:
    explicit Crew(const Options &options) : options_(options), members_(options.threads) {}
    int members() const { return members_; }
    // Of `total` things, member `member` has those from first() to first() of the next one.
    int first(int total, int member) const { return static_cast<int>(static_cast<int64_t>(total) * member / members_); }

    // Runs `work` once for each member, 0 on this thread; throws what the first one that failed threw.
    void run(const std::function<void(int member)> &work);
    // Waits until all members have come here. Throws when one has failed.
    void meet();
    // Member 0: warm-up, then the counted part. The others: until that is over. `turned` is called after each turn.
    Measured measure(Loop &loop, int member, const std::function<void()> &turned = nullptr);

    void end() { phase_ = Phase::kEnding; }
    void begin_again() { phase_ = Phase::kWarming; }
    bool is_counting() const { return phase_.load(std::memory_order_relaxed) == Phase::kCounting; }
    bool is_ending() const { return phase_.load(std::memory_order_relaxed) == Phase::kEnding; }
    void throw_if_failed() const;

  private:
    enum class Phase { kWarming, kCounting, kEnding };
    void work(const std::function<void(int member)> &work, int member);
    void fail(std::exception_ptr error);

    const Options &options_;
    int members_;
    std::atomic<Phase> phase_ = Phase::kWarming;
    std::atomic<bool> failed_ = false;
    std::mutex mutex_;
    std::condition_variable met_;
    int came_ = 0, meetings_ = 0;
    std::exception_ptr error_;
};

}  // namespace load
