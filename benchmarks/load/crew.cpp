#include "crew.h"

#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

namespace load {

namespace {

constexpr double kPatience = 5;
constexpr double kTurn = 0.05;  // seconds in which a member sees that the phase has changed

double used(const CpuTime &before, const CpuTime &after) {
    return after.user - before.user + after.system - before.system;
}

}  // namespace

void Measured::report(Report &report, const Options &options, const char *what, uint64_t count) const {
    if (!count) throw std::runtime_error("nothing was counted in " + std::to_string(seconds) + " seconds");
    report.add(what, count);
    report.add("seconds", seconds);
    report.add(std::string(what) + "_per_second", static_cast<double>(count) / seconds);
    if (options.pid) report.add_cpu("server_cpu", server_before, server_after, count, seconds);
    report.add_cpu("load_cpu", own_before, own_after, count, seconds);
}

void Crew::run(const std::function<void(int member)> &job) {
    std::vector<std::thread> threads;
    for (int i = 1; i < members_; i++) threads.emplace_back([this, &job, i] { work(job, i); });
    work(job, 0);
    for (std::thread &thread : threads) thread.join();
    if (error_) std::rethrow_exception(error_);
}

void Crew::work(const std::function<void(int member)> &job, int member) {
    try {
        job(member);
    } catch (...) {
        fail(std::current_exception());
    }
}

void Crew::fail(std::exception_ptr error) {
    std::lock_guard lock(mutex_);
    if (!error_) error_ = error;
    failed_ = true;
    phase_ = Phase::kEnding;
    met_.notify_all();
}

void Crew::throw_if_failed() const {
    if (failed_) throw std::runtime_error("another thread has failed");
}

void Crew::meet() {
    std::unique_lock lock(mutex_);
    int meeting = meetings_;
    if (++came_ == members_) {
        came_ = 0;
        meetings_++;
        met_.notify_all();
    }
    met_.wait(lock, [&] { return meetings_ != meeting || failed_; });
    throw_if_failed();
}

Measured Crew::measure(Loop &loop, int member, const std::function<void()> &turned) {
    auto run_until = [&](double end) {
        for (double left = end - now(); left > 0; left = end - now()) {
            loop.turn(std::min(left, kTurn));
            if (turned) turned();
            throw_if_failed();
        }
    };
    if (member != 0) {
        while (!is_ending()) run_until(now() + kTurn);
        return {};
    }
    Measured measured;
    run_until(now() + options_.warmup);
    if (options_.pid) measured.server_before = cpu_of(options_.pid);
    measured.own_before = cpu_of(getpid());
    double start = now();
    phase_ = Phase::kCounting;
    run_until(start + options_.seconds);
    // The kernel samples the split of CPU time at its tick: on a busy machine a few seconds of wall time say little.
    while (options_.pid && now() < start + kPatience * options_.seconds &&
           used(measured.server_before, cpu_of(options_.pid)) < options_.min_cpu) {
        run_until(now() + 0.1);
    }
    phase_ = Phase::kEnding;
    measured.seconds = now() - start;
    if (options_.pid) measured.server_after = cpu_of(options_.pid);
    measured.own_after = cpu_of(getpid());
    return measured;
}

}  // namespace load
