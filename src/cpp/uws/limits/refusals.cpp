#include "uws/limits/refusals.h"

namespace uwserve {

const char *refusal_name(Refusal cause) {
    static constexpr const char *const names[] = {
        "connections",
        "connections_per_address",
        "pending_heads",
        "accept_errors",
        "head_timeouts",
        "idle_timeouts",
        "http_400",
        "http_413",
        "http_414",
        "http_417",
        "http_421",
        "http_431",
        "http_501",
        "http_503",
        "http_505",
        "handshake_invalid",
        "handshake_version",
        "websocket_1002",
        "websocket_1007",
        "websocket_1009",
        "websocket_1011",
        "control_frames",
        "tiny_fragments",
        "websocket_1013",
        "sends_backpressure",
        "sends_buffered_bytes",
        "backpressure_closes",
        "concurrent_handlers",
        "descriptors",
    };
    static_assert(sizeof(names) / sizeof(*names) == kRefusals);
    return names[static_cast<size_t>(cause)];
}

Refusal refusal_of_status(int status) {
    switch (status) {
    case 400:
        return Refusal::kHttp400;
    case 413:
        return Refusal::kHttp413;
    case 414:
        return Refusal::kHttp414;
    case 417:
        return Refusal::kHttp417;
    case 421:
        return Refusal::kHttp421;
    case 431:
        return Refusal::kHttp431;
    case 501:
        return Refusal::kHttp501;
    case 503:
        return Refusal::kHttp503;
    case 505:
        return Refusal::kHttp505;
    default:
        return Refusal::kCount;
    }
}

Refusal refusal_of_close_code(int code) {
    switch (code) {
    case 1002:
        return Refusal::kWs1002;
    case 1007:
        return Refusal::kWs1007;
    case 1009:
        return Refusal::kWs1009;
    case 1011:
        return Refusal::kWs1011;
    default:
        return Refusal::kCount;  // 1008 and 1013 are counted by their limits
    }
}

void Refusals::install(us_loop_t *loop, Report report, void *user) {
    loop_ = loop;
    report_ = report;
    user_ = user;
}

void Refusals::detach() {
    flush();
    if (timer_) us_timer_close(timer_);
    timer_ = nullptr;
    loop_ = nullptr;
    report_ = nullptr;
}

void Refusals::count(Refusal cause) {
    if (count_elsewhere(cause)) wake();
}

bool Refusals::count_elsewhere(Refusal cause) {
    if (cause == Refusal::kCount) return false;
    counts_[static_cast<size_t>(cause)].fetch_add(1, std::memory_order_relaxed);
    // A dead peer is no reason to log by itself; it is reported along with others.
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
        // One that was counted just before that flag fell armed nothing.
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
