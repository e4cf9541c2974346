// test_chaos.cpp - random operations on random sockets out of every callback, with the invariants looked at in between.
//
// Seeds are fixed, so a failure can be repeated. What must hold: one on_close per on_open, however often a socket was
// adopted; num_blocked and num_polls are what counting gives; a stream's bytes arrive unchanged and in order until the
// connection ends; the address sanitizer has nothing to say.
#include "server.h"
#include "usockets/tcp/socket.h"
#include "usockets/loop/state.h"
#include "usockets/loop/timeout_wheel.h"
#include "usockets/loop/timer.h"
#include "usockets/tcp/read.h"

#include <map>
#include <random>

struct chaos_t {
    std::mt19937 random;
    server_t server;
    context_t ws{us_create_child_socket_context(0, server.http.context, sizeof(void *))};
    struct stream_t {
        us_socket_t *s;
        unsigned next = 0;  // of the counting bytes that the server sends
        std::string backlog;
        int closes = 0;
    };
    std::map<intptr_t, stream_t> streams;
    intptr_t ids = 0;
    int nesting = 0, adoptions = 0, timeouts = 0;

    explicit chaos_t(unsigned seed) : random(seed) {
        for (context_t *context : {&server.http, &ws}) {
            context->open = [this](us_socket_t *s) {
                s->user = (void *) ++ids;
                streams[ids].s = s;
                act();
            };
            context->close = [this](us_socket_t *s, int, void *) {
                CHECK_EQ(streams.at((intptr_t) s->user).closes++, 0);
                act();
            };
            context->data = [this](us_socket_t *s, char *, int) {
                us_socket_timeout(0, s, 1 + random() % 3);
                act();
            };
            context->writable = [this](us_socket_t *s) {
                flush(streams.at((intptr_t) s->user));
                act();
            };
            context->timeout = [this](us_socket_t *s) {
                timeouts++;
                us_socket_timeout(0, s, upto(4));
                act();
            };
            context->end = [this](us_socket_t *s) {
                if (random() % 2) us_socket_close(0, s, 0, nullptr);
                act();
            };
        }
        server_t::on_wakeup = [this] { act(); };
        server_t::on_post = [this] { act(); };
    }

    ~chaos_t() { us_socket_context_free(0, ws.context); }

    unsigned upto(unsigned n) { return (unsigned) (random() % n); }

    us_socket_t *any() {
        if (streams.empty()) return nullptr;
        auto it = streams.lower_bound(1 + (intptr_t) upto((unsigned) ids));
        return it == streams.end() ? nullptr : us_socket_newest(it->second.s);
    }

    void flush(stream_t &stream) {
        us_socket_t *s = us_socket_newest(stream.s);
        while (!stream.backlog.empty()) {
            const int n = us_socket_write(0, s, stream.backlog.data(), (int) stream.backlog.size(), upto(2));
            if (n == 0) break;
            stream.backlog.erase(0, (size_t) n);
        }
    }

    void send_more(us_socket_t *s) {
        if (s->closed || s->shut_down) return;
        stream_t &stream = streams.at((intptr_t) s->user);
        std::string bytes(upto(40000) + 12, 0);
        for (char &c : bytes) c = (char) (stream.next++ % 251);
        if (stream.backlog.empty() && upto(2)) {
            const int n = us_socket_write2(0, s, bytes.data(), 10, bytes.data() + 10, (int) bytes.size() - 10);
            CHECK(n > 10 || (s->flags_ & US_FLAG_FAILED));
            bytes.erase(0, (size_t) n);
        }
        stream.backlog += bytes;
        flush(stream);
    }

    void act() {
        if (nesting >= 3) return;
        nesting++;
        us_socket_t *s = any();
        const unsigned what = upto(40);
        if (s) {
            if (what < 2)
                us_socket_close(0, s, 0, nullptr);
            else if (what < 5)
                remember(s, us_socket_context_adopt_socket(0, upto(2) ? ws.context : server.http.context, s,
                                                           (int) upto(300)));
            else if (what < 7)
                us_socket_pause(s, 1 << upto(3));
            else if (what < 12)
                us_socket_resume(s, 7);
            else if (what < 13)
                us_socket_shutdown(0, s);
            else if (what < 14)
                us_socket_shutdown_read(0, s);
            else if (what < 24)
                send_more(s);
            else if (what < 26)
                us_socket_timeout(0, s, upto(3));
            else if (what < 27)
                us_socket_deadline(s, upto(3));
            else if (what < 28)
                us_wakeup_loop(server.loop);
            else if (what < 29 && !s->closed)
                us_socket_deliver(s, "delivered", 9);
            else if (what < 30 && upto(20) == 0)
                us_socket_context_close(0, ws.context);
        }
        nesting--;
    }

    // An adopted closed socket yields a closed block that is nobody's stream.
    void remember(us_socket_t *old, us_socket_t *made) {
        if (old->moved_to == made) {
            streams.at((intptr_t) made->user).s = made;
            adoptions++;
        }
    }

    void check() {
        int blocked = 0, open = 0;
        for (us_socket_context_t *context : {server.http.context, ws.context}) {
            uint32_t count = 0;
            for (us_socket_t *s = context->head_; s; s = s->next_) {
                CHECK(!s->closed && !s->moved_to && s->fd >= 0);
                CHECK(!s->unsent_tail_ || s->blocked);
                blocked += s->blocked;
                count++;
            }
            CHECK_EQ(count, context->num_sockets);
            open += (int) count;
        }
        CHECK_EQ(server.loop->num_blocked, blocked);
        CHECK_EQ(server.loop->num_polls, open + 1);
        CHECK_EQ(server.loop->depth, 0);
    }

    // The blocks of these were freed by the iteration that has just ended.
    void forget_closed() {
        for (auto it = streams.begin(); it != streams.end();) {
            it = it->second.closes ? streams.erase(it) : std::next(it);
        }
    }
};

struct peer_t {
    int fd;
    unsigned expected = 0;
    bool failed = false;
};

static long total_opened, total_adoptions, total_timeouts, total_bytes;

static void run(unsigned seed, bool with_faults) {
    chaos_t chaos(seed);
    static std::mt19937 fault_random;
    fault_random.seed(seed);
    if (with_faults) {
        us_sys_hook = [](us_sys_call_t call, size_t *length) {
            if (call == US_SYS_SEND || call == US_SYS_SENDMSG || call == US_SYS_RECV) {
                if (fault_random() % 3 == 0) *length = 1 + fault_random() % *length;
                return fault_random() % 50 == 0    ? EAGAIN
                       : fault_random() % 400 == 0 ? ECONNRESET
                       : fault_random() % 50 == 0  ? EINTR
                                                   : 0;
            }
            return call == US_SYS_EPOLL_CTL && fault_random() % 100 == 0 ? ENOMEM : 0;
        };
    }
    std::vector<peer_t> peers;
    for (int i = 0; i < 1500; i++) {
        if (peers.size() < 30 && chaos.upto(3) == 0) peers.push_back({dial(chaos.server.port, 4096)});
        if (!peers.empty()) {
            const size_t k = chaos.upto((unsigned) peers.size());
            peer_t &peer = peers[k];
            const unsigned what = chaos.upto(20);
            if (what < 8) {
                const std::string text(1 + chaos.upto(3000), 't');
                send(peer.fd, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
            } else if (what < 16) {
                for (char c : hear(peer.fd)) {
                    CHECK_EQ((unsigned char) c, peer.expected % 251);
                    peer.expected++;
                    total_bytes++;
                }
            } else if (what < 17) {
                shutdown(peer.fd, SHUT_WR);
            } else if (what < 19) {
                what == 17 ? (void) close(peer.fd) : reset(peer.fd);
                peers.erase(peers.begin() + (long) k);
            }
        }
        if (chaos.upto(10) == 0) {
            chaos.server.loop->internal_->base_ns -= US_NS_PER_SECOND;  // time passes
        }
        us_loop_iterate(chaos.server.loop, 0);
        chaos.forget_closed();
        if (chaos.upto(4) == 0) {
            chaos.act();  // from outside an iteration
        }
        if (!with_faults) chaos.check();
    }
    us_sys_hook = nullptr;
    for (peer_t &peer : peers) close(peer.fd);
    us_socket_context_close(0, chaos.server.http.context);
    us_socket_context_close(0, chaos.ws.context);
    us_loop_iterate(chaos.server.loop, 0);
    CHECK_EQ(chaos.server.loop->num_blocked, 0);
    CHECK_EQ(chaos.server.http.opened, chaos.server.http.closed + chaos.ws.closed);
    total_opened += chaos.server.http.opened;
    total_adoptions += chaos.adoptions;
    total_timeouts += chaos.timeouts;
}

// A chaos in which nothing happens proves nothing.
static void report() {
    printf("  %ld sockets, %ld adoptions, %ld timeouts, %ld bytes\n", total_opened, total_adoptions, total_timeouts,
           total_bytes);
    CHECK(total_opened > 500 && total_adoptions > 500 && total_timeouts > 100 && total_bytes > 1'000'000);
    total_opened = total_adoptions = total_timeouts = total_bytes = 0;
}

TEST(random_operations) {
    const int before = count_fds();
    for (unsigned seed = 1; seed <= 12; seed++) {
        run(seed, false);
        CHECK_EQ(count_fds(), before);
    }
    report();
}

TEST(random_operations_and_random_failures) {
    const int before = count_fds();
    for (unsigned seed = 100; seed <= 112; seed++) {
        run(seed, true);
        CHECK_EQ(count_fds(), before);
    }
    report();
}
