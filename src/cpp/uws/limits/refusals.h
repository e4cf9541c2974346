// The refusals of a server, by cause: counters that any thread may read, and a report once a period while they grow.
//
// Counting is a relaxed add. The first refusal arms a timer of the loop, which reports at once (in the next iteration, so
// outside of all parsers). From then on, it reports after each period with refusals, and stops after a period without. A
// server that refuses nothing has no timer. The owner of the loop calls flush() for the last report.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>

#include <libusockets.h>

namespace uwserve {

enum class Refusal : uint8_t {
    kConnections,  // over max_connections
    kConnectionsPerAddress,  // over max_connections_per_address
    kPendingHeads,  // closed as the oldest over max_pending_heads
    kAcceptErrors,  // accept() had no descriptor or no memory
    kHeadTimeouts,  // a request that had begun did not arrive in time
    kIdleTimeouts,  // connections that sent nothing
    kHttp400,
    kHttp413,
    kHttp414,
    kHttp417,
    kHttp421,  // the connection does not meet the demands of the host on the certificate
    kHttp431,
    kHttp501,
    kHttp503,  // over max_buffered_bytes
    kHttp505,
    kHandshakeInvalid,  // a handshake that violates RFC 6455 4.1
    kHandshakeVersion,  // answered with 426
    kWs1002,  // WebSockets that failed with this code
    kWs1007,
    kWs1009,
    kWs1011,  // there was no memory for a message
    kControlFrames,  // over max_control_frames_per_second: 1008
    kTinyFragments,  // over max_tiny_fragments_per_second: 1008
    kWsBufferedBytes,  // messages being assembled over max_buffered_bytes: 1013
    kSendsBackpressure,  // messages dropped over backpressure_limit
    kSendsBufferedBytes,  // messages dropped over max_buffered_bytes
    kBackpressureCloses,  // sockets closed by close_on_backpressure_limit
    kConcurrentHandlers,  // over limits.max_concurrent_handlers: sockets not read, and requests answered with 503
    kDescriptors,  // connections that would have got one of reserved_descriptors
    kCount
};
constexpr size_t kRefusals = static_cast<size_t>(Refusal::kCount);

// The name for users.
const char *refusal_name(Refusal cause);
// kCount when responses with that status, or WebSockets failed with that close code, are not counted.
Refusal refusal_of_code(int code);

class Refusals {
  public:
    using Counts = std::array<uint64_t, kRefusals>;
    // The counts since the last report, and over how many seconds; 0 for the first report after a period without. Called
    // on the loop's thread.
    using Report = void (*)(void *user, const Counts &counts, double seconds);

    void install(us_loop_t *loop, Report report, void *user) {
        loop_ = loop;
        report_ = report;
        user_ = user;
    }
    void detach();  // the loop is about to be freed

    // Loop thread.
    [[gnu::cold]] void count(Refusal cause);
    // Any thread. True: the loop's thread must call wake(), so that it is reported.
    bool count_elsewhere(Refusal cause);
    void wake();
    // Loop thread: reports at once.
    void flush();

    uint64_t total(Refusal cause) const { return counts_[static_cast<size_t>(cause)].load(std::memory_order_relaxed); }
    unsigned period_ms = 10'000;

  private:
    static void on_timer(us_timer_t *timer);
    bool has_news() const;

    std::array<std::atomic<uint64_t>, kRefusals> counts_{};
    Counts reported_{};
    std::atomic<bool> armed_{false};
    bool periodic_ = false;  // a period has begun with a report
    std::chrono::steady_clock::time_point last_;
    us_timer_t *timer_ = nullptr;
    us_loop_t *loop_ = nullptr;
    Report report_ = nullptr;
    void *user_ = nullptr;
};

}  // namespace uwserve
