// A server's limits against abuse: their figures, connections by address, and the bytes that are kept in memory.
//
// Where each limit is applied:
//   connections and descriptors   here, when the socket layer accepts. The kernel gives the lowest free descriptor, so
//                                 the number of the new one counts all that the process has open. Draining sockets have
//                                 descriptors, too, and make room for new connections.
//   connections per address       here, for each connection, and for each request of a client behind a trusted proxy
//   pending heads                 http/admission.h
//   rates of frames               in Lifecycle, from counters beside each WebSocket (limits/rate_bucket.h)
//   buffered bytes                wherever memory would grow
//
// Buffered bytes. Each socket is charged (us_socket_t::charged) with the memory that is kept for it in user space: output
// that the kernel has not taken, a message being assembled, a request being collected. The sum changes by differences,
// when the socket layer reports a change of its output (us_loop_on_change), and when HttpConnections or Lifecycle keep
// input; closing discharges the socket. This costs nothing for a socket whose output the kernel takes at once and whose
// messages arrive whole. Bytes of no socket (posted messages, late bytes) are counted by MemoryCharge; bodies of
// requests, which may outlive their connection, by RequestBody; messages of suspended handlers by RunningHandlers.
// Memory is charged until it is freed, whichever object owns it.
//
// Loop thread, except buffered_bytes(), has_memory_elsewhere(), MemoryCharge and the counters.
#pragma once

#include <atomic>
#include <memory>
#include <unordered_map>

#include "uws/http/forwarded.h"
#include "uws/limits/refusals.h"
#include "uws/limits/stats.h"
#include "uws/upstream/uwebsockets.h"

namespace uwserve {

// 0 turns a limit off.
struct LimitFigures {
    uint32_t max_connections = 0;
    uint32_t max_connections_per_address = 0;
    bool exempt_local = false;  // the figure above is the default, from which loopback is exempt
    uint32_t max_pending_heads = 0;
    uint32_t max_control_frames_per_second = 0;
    uint32_t max_tiny_fragments_per_second = 0;
    uint64_t max_buffered_bytes = 0;
    uint64_t max_concurrent_handlers = 0;
    uint32_t first_reserved_fd = 0;  // descriptors from here on are left to the application
};

constexpr size_t kUnlimitedBackpressure = 1u << 30;

// The options of WebSockets that do not concern Python, replaced as a whole by reload(). They are kept nowhere else.
struct WebSocketSettings {
    unsigned max_payload_length = 16u << 20;  // bytes of a message, reassembled and inflated
    unsigned idle_timeout = 120, ping_interval = 0, max_lifetime = 0;  // seconds
    bool send_pings = true;
    size_t backpressure_limit = 16u << 20;  // never 0: without a limit it is kUnlimitedBackpressure
    bool close_on_backpressure_limit = false;
    bool publish_to_self = false;
};

// The number of connections of each address: an IPv4 address, or the /64 of an IPv6 address, because one site gets that
// much. Each entry has a connection, so there are no more entries than connections. The hash is keyed, so that no client
// can choose collisions.
class AddressTable {
  public:
    AddressTable();
    uint32_t add(const uint8_t *ip, unsigned length);  // the count with the new one
    void remove(const uint8_t *ip, unsigned length);
    size_t size() const { return counts_.size(); }

  private:
    struct Hash {
        uint64_t keys[2];
        size_t operator()(uint64_t address) const;
    };
    std::unordered_map<uint64_t, uint32_t, Hash> counts_;
};

// Whether an address (4 or 16 bytes) is this machine's loopback, also as IPv4 in IPv6.
bool is_loopback(const uint8_t *ip, unsigned length);

class Limits {
  public:
    // A number of bytes that are kept for no socket. Any thread.
    class MemoryCharge {
      public:
        MemoryCharge(Limits &limits, size_t bytes) : total_(limits.unattached_), bytes_(bytes) {
            total_->fetch_add(bytes_);
        }
        MemoryCharge(MemoryCharge &&other) noexcept
            : total_(std::move(other.total_)), bytes_(std::exchange(other.bytes_, 0)) {}
        ~MemoryCharge() { release(); }
        void change(size_t bytes) {
            if (bytes != bytes_) total_->fetch_add(bytes - bytes_);  // modulo 2^64, so a difference below 0 is right
            bytes_ = bytes;
        }
        void release() {
            if (bytes_) total_->fetch_sub(std::exchange(bytes_, 0));
        }
        MemoryCharge(const MemoryCharge &) = delete;
        MemoryCharge &operator=(const MemoryCharge &) = delete;
        MemoryCharge &operator=(MemoryCharge &&) = delete;

      private:
        std::shared_ptr<std::atomic<uint64_t>> total_;
        size_t bytes_;
    };

    // Puts its hooks on the contexts.
    void install(us_socket_context_t *http_context, us_socket_context_t *ws_context);
    void refused(Refusal cause) { refusals.count(cause); }

    // --- connections ---
    // By address. A connection counts for its own address as long as it lives. It is not refused if that is the address
    // of a trusted proxy, which sends requests of many clients. A forwarded request counts for the client that the proxy
    // names until it is answered, and a WebSocket that it becomes counts for that client instead of the proxy.
    bool address_opened(us_socket_t *s);  // false: over the limit, and counted as refused; address_closed() follows
    void address_closed(us_socket_t *s);
    bool client_arrived(const ClientAddress &client);  // false: the same, but client_left() must not follow
    void client_left(const ClientAddress &client);
    // address_closed() follows, and not client_left().
    void client_stays(us_socket_t *s, const ClientAddress &client);

    // --- rates ---
    // A WebSocket has sent a control frame, or a fragment of that many bytes. False: too many, and counted as refused.
    bool control_frame(us_socket_t *s) {
        uint32_t limit = figures.max_control_frames_per_second;
        if (!limit || per_socket(s)->control_frames.take(s->context->loop->tick, limit)) [[likely]]
            return true;
        refused(Refusal::kControlFrames);
        return false;
    }
    bool fragment(us_socket_t *s, uint64_t size) {
        uint32_t limit = figures.max_tiny_fragments_per_second;
        if (size >= kTinyFragment || !limit || per_socket(s)->tiny_fragments.take(s->context->loop->tick, limit))
            [[likely]]
            return true;
        refused(Refusal::kTinyFragments);
        return false;
    }

    // --- buffered bytes ---
    // Whether `more` bytes may be kept. A refusal is not counted.
    bool has_memory(size_t more) {
        if (!figures.max_buffered_bytes) return true;
        us_loop_settle(http_->loop);
        return has_memory_elsewhere(more);
    }
    bool has_memory_elsewhere(size_t more) const {
        return !figures.max_buffered_bytes || buffered_bytes() + more <= figures.max_buffered_bytes;
    }
    uint64_t buffered_bytes() const {
        return buffered_.load(std::memory_order_relaxed) + unattached_->load(std::memory_order_relaxed);
    }
    // Counts a message that was admitted. It is dropped only if the connection is dead, or ends.
    void sent(us_socket_t *s, unsigned opcode, size_t size, Socket::SendStatus status) {
        if (status == Socket::DROPPED) {
            refused(has_memory_elsewhere(0) ? Refusal::kSendsBackpressure : Refusal::kSendsBufferedBytes);
            return;
        }
        stats.sent[opcode].add(size);
        if (status == Socket::BACKPRESSURE || s->blocked) stats.backpressured.add();
    }
    // Bytes of no socket, whose owner has no MemoryCharge.
    void charge_unattached(size_t bytes) { unattached_->fetch_add(bytes, std::memory_order_relaxed); }
    void discharge_unattached(size_t bytes) { unattached_->fetch_sub(bytes, std::memory_order_relaxed); }
    // Bodies of requests (http/request_body.h). All together may have half of max_buffered_bytes, so that uploads do
    // not stop all messages; a single body may have all of it.
    void charge_body(size_t bytes) {
        charge_unattached(bytes);
        bodies_.fetch_add(bytes, std::memory_order_relaxed);
    }
    void discharge_body(size_t bytes) {
        discharge_unattached(bytes);
        bodies_.fetch_sub(bytes, std::memory_order_relaxed);
    }
    // Whether a body that has `present` bytes may have `more`.
    bool has_body_room(size_t present, uint64_t more) const {
        uint64_t bodies = bodies_.load(std::memory_order_relaxed), max = figures.max_buffered_bytes;
        return !max || (has_memory_elsewhere(more) && (bodies <= present || bodies + more <= max / 2));
    }
    void charge(us_socket_t *s);  // the memory of s has changed
    void discharge(us_socket_t *s) { change_charge(s, 0); }  // s has closed

    LimitFigures figures;
    WebSocketSettings websocket;
    Refusals refusals;
    Stats stats;  // here, because all code that counts has the limits
    TrustedProxies proxies;

  private:
    static int on_accept(us_socket_context_t *context, int *fd);
    bool has_room_for(us_socket_context_t *context, int fd, Refusal *cause) const;
    static void on_accept_error(us_socket_context_t *context, int error);
    bool admits(uint32_t count, const uint8_t *ip, unsigned length);
    size_t memory_of(us_socket_t *s) const;
    void change_charge(us_socket_t *s, uint32_t bytes);

    us_socket_context_t *http_ = nullptr, *ws_ = nullptr;
    AddressTable addresses_;
    std::atomic<uint64_t> buffered_{0};  // the sum of all charges
    std::shared_ptr<std::atomic<uint64_t>> unattached_ = std::make_shared<std::atomic<uint64_t>>(0);
    std::atomic<uint64_t> bodies_{0};  // a part of *unattached_
};

// us_socket_t::user_bits: counted in the table of addresses.
constexpr uint8_t kAddressCounted = 128;

}  // namespace uwserve
