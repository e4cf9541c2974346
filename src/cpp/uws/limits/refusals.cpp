#include "uws/limits/refusals.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace uwserve {

// In the order of Refusal. `code`: the status of a response, or the close code of a WebSocket, that is counted as this;
// 1008 and 1013 are counted by their limits.
constexpr struct {
    const char *name;
    int code = 0;
} kCauses[] = {
    {"connections"},          {"connections_per_address"}, {"pending_heads"},        {"accept_errors"},
    {"head_timeouts"},        {"idle_timeouts"},           {"http_400", 400},        {"http_413", 413},
    {"http_414", 414},        {"http_417", 417},           {"http_421", 421},        {"http_431", 431},
    {"http_501", 501},        {"http_503", 503},           {"http_505", 505},        {"handshake_invalid"},
    {"handshake_version"},    {"websocket_1002", 1002},    {"websocket_1007", 1007}, {"websocket_1009", 1009},
    {"websocket_1011", 1011}, {"control_frames"},          {"tiny_fragments"},       {"websocket_1013"},
    {"sends_backpressure"},   {"sends_buffered_bytes"},    {"backpressure_closes"},  {"concurrent_handlers"},
    {"descriptors"},
};
static_assert(std::size(kCauses) == kRefusals);

const char *refusal_name(Refusal cause) { return kCauses[static_cast<size_t>(cause)].name; }

Refusal refusal_of_code(int code) {
    const auto *found =
        std::find_if(std::begin(kCauses), std::end(kCauses), [code](const auto &cause) { return cause.code == code; });
    return static_cast<Refusal>(found - kCauses);
}

void Refusals::detach() {
    flush();
    if (timer_) us_timer_close(std::exchange(timer_, nullptr));
    install(nullptr, nullptr, nullptr);
}

void Refusals::count(Refusal cause) {
    if (count_elsewhere(cause)) wake();
}

bool Refusals::count_elsewhere(Refusal cause) {
    if (cause == Refusal::kCount) return false;
    counts_[static_cast<size_t>(cause)].fetch_add(1, std::memory_order_relaxed);
    // A dead peer is no reason for a report, but is part of the next one.
    return cause != Refusal::kIdleTimeouts && !armed_.exchange(true, std::memory_order_relaxed);
}

void Refusals::wake() {
    if (!loop_) return;
    if (!timer_) {
        timer_ = us_create_timer(loop_, 0, sizeof(Refusals *));
        *static_cast<Refusals **>(us_timer_ext(timer_)) = this;
    }
    us_timer_set(timer_, on_timer, 1, 0);
}

void Refusals::on_timer(us_timer_t *timer) {
    Refusals *self = *static_cast<Refusals **>(us_timer_ext(timer));
    if (!self->has_news()) {
        self->periodic_ = false;
        self->armed_.store(false, std::memory_order_relaxed);
        // A refusal that was counted just before the flag was cleared has armed nothing.
        if (self->has_news() && !self->armed_.exchange(true, std::memory_order_relaxed)) self->wake();
        return;
    }
    us_timer_set(timer, on_timer, static_cast<int>(self->period_ms), 0);
    self->flush();
}

bool Refusals::has_news() const {
    for (size_t i = 0; i < kRefusals; i++) {
        if (static_cast<Refusal>(i) != Refusal::kIdleTimeouts &&
            counts_[i].load(std::memory_order_relaxed) != reported_[i]) {
            return true;
        }
    }
    return false;
}

void Refusals::flush() {
    if (!report_ || !has_news()) return;
    Counts news{};
    for (size_t i = 0; i < kRefusals; i++) {
        uint64_t now = counts_[i].load(std::memory_order_relaxed);
        news[i] = now - reported_[i];
        reported_[i] = now;
    }
    auto now = std::chrono::steady_clock::now();
    double seconds = periodic_ ? std::chrono::duration<double>(now - last_).count() : 0;
    periodic_ = true;
    last_ = now;
    report_(user_, news, seconds);
}

}  // namespace uwserve
