// test_liveness.cpp - when silent WebSockets are pinged and closed, and when old ones are asked to go: the schedule as pure
// functions, and a whole instance whose clock is moved instead of waited for.
#include "instance_server.h"

#include "usockets/tcp/socket.h"
#include "usockets/loop/state.h"

#include <netinet/in.h>
#include <sys/socket.h>

using uwserve::PingSchedule;

namespace {

// What happens to a peer that never says anything: the seconds of each Ping, and of the end (0: it never ends, as seen
// after `limit` Pings).
struct Course {
    std::vector<unsigned> pings;
    unsigned end = 0;
    bool operator==(const Course &) const = default;
};

Course course(const PingSchedule &liveness, size_t limit = 6) {
    Course seen;
    unsigned silent = 0, now = 0;
    while (unsigned next = liveness.next(silent)) {
        now += next;
        silent = liveness.counted(silent + next);
        if (liveness.closes(silent)) {
            seen.end = now;
            break;
        }
        seen.pings.push_back(now);
        if (seen.pings.size() == limit) break;
    }
    return seen;
}

// A WebSocket of an instance, its client's end as a descriptor, and the loop's clock in the test's hand.
struct Aged {
    instance_server_t server;
    int client = -1;

    explicit Aged(bool tcp = false) {
        server.acts = false;
        connect(tcp);
    }
    ~Aged() {
        if (client >= 0) close(client);
    }

    // Both ends of a connection over loopback, with a small receive buffer, so that the client's reading shows.
    static void connect_tcp(int ends[2]) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t length = sizeof(address);
        int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), size = 32 << 10;
        CHECK_EQ(bind(listener, (sockaddr *) &address, length) | listen(listener, 1), 0);
        CHECK_EQ(getsockname(listener, (sockaddr *) &address, &length), 0);
        ends[0] = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK_EQ(setsockopt(ends[0], SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)), 0);
        CHECK_EQ(::connect(ends[0], (sockaddr *) &address, length), 0);
        ends[1] = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        close(listener);
    }

    void connect(bool tcp = false) {
        int ends[2];
        if (tcp) {
            connect_tcp(ends);
        } else {
            CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
        }
        client = ends[0];
        CHECK(server.adopt(ends[1]));
        static const char handshake[] =
            "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        CHECK_EQ(send(client, handshake, sizeof(handshake) - 1, 0), sizeof(handshake) - 1);
        server.iterate(3);
        CHECK(hear().starts_with("HTTP/1.1 101"));
    }

    std::string hear() const {
        std::string out(1 << 16, 0);
        ssize_t n = recv(client, out.data(), out.size(), MSG_DONTWAIT);
        out.resize(n > 0 ? static_cast<size_t>(n) : 0);
        return out;
    }

    // So many bytes, waiting for them (they are on their way), and lets the server see that.
    void read(size_t size) {
        std::string out(size, 0);
        while (size) {
            server.iterate();
            ssize_t n = recv(client, out.data(), size, MSG_DONTWAIT);
            CHECK(n > 0 || (n < 0 && errno == EAGAIN));
            if (n > 0) size -= static_cast<size_t>(n);
        }
    }

    instance_server_t::peer_t &peer() { return *server.peers.back(); }
    us_socket_t *socket() { return instance_server_t::raw(peer()); }

    void pass(unsigned seconds) {
        server.instance->loop()->internal_->base_ns -= seconds * US_NS_PER_SECOND;
        server.iterate();
    }
    // Second by second until something is sent or the socket is gone; how many that took.
    unsigned until_something(unsigned limit, std::string *heard = nullptr) {
        for (unsigned second = 1; second <= limit; second++) {
            pass(1);
            std::string got = hear();
            if (!got.empty() || !peer().ws) {
                if (heard) *heard = got;
                return second;
            }
        }
        return 0;
    }
    void say_pong() {
        static const unsigned char pong[] = {0x8a, 0x80, 0, 0, 0, 0};
        CHECK_EQ(send(client, pong, sizeof(pong), 0), sizeof(pong));
        server.iterate();
    }
};

const std::string kPing("\x89\0", 2);

}  // namespace

TEST(the_schedule) {
    CHECK(course(PingSchedule(0, true, 0)) == Course{});
    CHECK((course(PingSchedule(120, true, 0)) == Course{{104}, 120}));
    CHECK((course(PingSchedule(120, false, 0)) == Course{{}, 120}));
    CHECK((course(PingSchedule(8, true, 0)) == Course{{4}, 8}));
    CHECK((course(PingSchedule(960, true, 0)) == Course{{944}, 960}));
    // Pings without an end.
    CHECK((course(PingSchedule(0, true, 20), 4) == Course{{20, 40, 60, 80}, 0}));
    CHECK((course(PingSchedule(0, false, 960), 3) == Course{{960, 1920, 2880}, 0}));
    // Both: whichever comes first, and from then on the interval.
    CHECK((course(PingSchedule(120, true, 50)) == Course{{50, 100}, 120}));
    CHECK((course(PingSchedule(120, true, 110)) == Course{{104}, 120}));
    CHECK((course(PingSchedule(120, true, 10), 99).pings.size() == 11));
    CHECK((course(PingSchedule(120, false, 110)) == Course{{110}, 120}));
    CHECK((course(PingSchedule(60, false, 60)) == Course{{}, 60}));
    CHECK((course(PingSchedule(60, true, 500)) == Course{{45}, 60}));
}

TEST(every_schedule_ends_when_its_idle_timeout_does) {
    for (unsigned idle = 8; idle <= 960; idle += 7) {
        for (unsigned interval = 0; interval <= 960; interval += 13) {
            for (bool pings : {false, true}) CHECK_EQ(course(PingSchedule(idle, pings, interval), 2000).end, idle);
        }
    }
}

// A timer fires with the clock's next full second after its time, never before.
TEST(a_ping_after_the_interval_and_never_an_end) {
    Aged aged;
    aged.server.instance->lifecycle().idle_timeout.set_schedule(PingSchedule(0, true, 20));
    for (int i = 0; i < 60; i++) {
        std::string heard;
        unsigned after = aged.until_something(30, &heard);
        CHECK(after >= 20 && after <= 22);
        CHECK(heard == kPing);
    }
    CHECK(aged.peer().ws);
    // An inbound frame begins the interval anew.
    aged.pass(15);
    aged.say_pong();
    CHECK(aged.until_something(30) >= 20);
}

TEST(pings_before_the_end_by_idle_timeout) {
    Aged aged;
    aged.server.instance->lifecycle().idle_timeout.set_schedule(PingSchedule(60, true, 25));
    std::string heard;
    unsigned now = aged.until_something(40, &heard);
    CHECK(heard == kPing && now >= 25 && now <= 27);
    now += aged.until_something(40, &heard);
    CHECK(heard == kPing && now >= 50 && now <= 54);
    now += aged.until_something(40, &heard);
    CHECK(heard.empty() && !aged.peer().ws);
    CHECK(now >= 60 && now <= 65);
}

// The client reads all of it and acknowledges it, but its program is gone: nothing comes back (defect P9).
TEST(a_client_that_is_published_to_and_silent_is_reaped) {
    Aged aged;
    aged.server.instance->lifecycle().idle_timeout.set_schedule(PingSchedule(8, true, 0));
    const std::string news(3000, 'n');
    unsigned second = 0;
    for (; aged.peer().ws && second < 30; second++) {
        for (int i = 0; i < 5; i++) aged.server.publish(news, uWS::OpCode::TEXT);
        aged.server.send(aged.peer(), news, uWS::OpCode::TEXT, false);
        aged.pass(1);
        CHECK(!aged.hear().empty() || !aged.peer().ws);
    }
    CHECK(second >= 8 && second <= 12);
    CHECK_EQ(aged.peer().code, 1006);
}

// A client that is busy with a large message sends no Pongs: a minute at 32 KiB a second, with eight seconds of
// patience. It is reaped when it stops in the midst of it, and not for its silence before.
TEST(a_reader_of_a_large_message_is_alive_while_it_reads) {
    for (bool tcp : {false, true}) {
        for (bool pings : {true, false}) {
            Aged aged(tcp);
            aged.server.instance->lifecycle().idle_timeout.set_schedule(PingSchedule(8, pings, 0));
            aged.server.send(aged.peer(), std::string(8 << 20, 'm'), uWS::OpCode::BINARY, false);
            for (int second = 0; second < 60; second++) {
                CHECK(aged.peer().ws);
                aged.read(32 << 10);
                aged.pass(1);
            }
            unsigned second = 0;
            while (aged.peer().ws && ++second < 60) aged.pass(1);
            CHECK(second >= 8 && second <= 28);
        }
    }
}

// The same while more and more is sent: what counts is what is read, not how much is left.
TEST(a_reader_that_does_not_catch_up_is_alive) {
    Aged aged;
    aged.server.limits.websocket.backpressure_limit = 64 << 20;
    aged.server.instance->lifecycle().idle_timeout.set_schedule(PingSchedule(8, true, 0));
    for (int second = 0; second < 60; second++) {
        CHECK(aged.peer().ws);
        for (int i = 0; i < 4; i++) {
            aged.server.send(aged.peer(), std::string(60'000, 's'), uWS::OpCode::BINARY, false);
        }
        aged.read(64 << 10);
        aged.pass(1);
    }
    CHECK(aged.peer().ws);
}

// Our Close and FIN are out, and the peer does not mind them.
TEST(a_peer_that_does_not_close_is_let_go) {
    for (bool tcp : {false, true}) {
        Aged aged(tcp);
        us_socket_t *s = aged.socket();
        aged.server.end(aged.peer(), 1000, "bye");
        us_socket_arm(s, 0);
        us_socket_deadline(s, uwserve::drain_seconds(s));  // as the binding does
        aged.server.iterate();
        for (int second = 0; second < 9; second++) aged.pass(1);
        CHECK(!s->closed);
        for (int second = 0; second < 3 && aged.server.instance->ws_context()->num_sockets; second++) aged.pass(1);
        CHECK_EQ(aged.server.instance->ws_context()->num_sockets, 0);
    }
}

// That there is something to read is no sign of life, nor that more of it is sent.
TEST(a_client_that_reads_nothing_is_reaped) {
    for (bool tcp : {false, true}) {
        Aged aged(tcp);
        aged.server.instance->lifecycle().idle_timeout.set_schedule(PingSchedule(8, true, 0));
        unsigned second = 0;
        for (; aged.peer().ws && second < 60; second++) {
            aged.server.send(aged.peer(), std::string(60'000, 's'), uWS::OpCode::BINARY, false);
            aged.pass(1);
        }
        CHECK(second >= 8 && second <= 20);
    }
}

TEST(a_client_that_answers_is_not) {
    Aged aged;
    aged.server.instance->lifecycle().idle_timeout.set_schedule(PingSchedule(8, true, 0));
    for (int i = 0; i < 40; i++) {
        aged.pass(3);
        aged.server.send(aged.peer(), "x", uWS::OpCode::TEXT, false);
        if (aged.hear().find(kPing) != std::string::npos) aged.say_pong();
        CHECK(aged.peer().ws);
    }
}

TEST(a_new_schedule_counts_for_open_sockets) {
    Aged aged;
    uwserve::Lifecycle &lifecycle = aged.server.instance->lifecycle();
    lifecycle.idle_timeout.set_schedule(PingSchedule(0, true, 0));
    aged.pass(5000);
    CHECK(aged.peer().ws && aged.hear().empty());
    lifecycle.idle_timeout.set_schedule(PingSchedule(0, true, 30));
    std::string heard;
    CHECK(aged.until_something(40, &heard) >= 30 && heard == kPing);
    lifecycle.idle_timeout.set_schedule(PingSchedule(100, true, 0));  // the silence begins anew, without a Ping
    CHECK(aged.until_something(200, &heard) >= 84 && heard == kPing);
    lifecycle.idle_timeout.set_schedule(PingSchedule(100, true, 0));  // the same again changes nothing
    CHECK(aged.until_something(200) <= 18 && !aged.peer().ws);
}

TEST(pausing_stops_the_pings) {
    Aged aged;
    aged.server.instance->lifecycle().idle_timeout.set_schedule(PingSchedule(0, true, 10));
    us_socket_pause(aged.socket(), US_PAUSE_USER);
    CHECK_EQ(aged.until_something(100), 0);
    aged.server.instance->lifecycle().idle_timeout.set_schedule(PingSchedule(0, true, 12));
    CHECK_EQ(aged.until_something(100), 0);
    us_socket_resume(aged.socket(), US_PAUSE_USER);
    aged.server.instance->lifecycle().idle_timeout.restart(aged.socket());
    unsigned after = aged.until_something(30);
    CHECK(after >= 12 && after <= 14);
}

// ---- lifetimes ----

namespace {

std::string close_frame(const std::string &reason) {
    return "\x88" + std::string(1, static_cast<char>(reason.size() + 2)) + "\x03\xe9" + reason;
}

}  // namespace

TEST(old_sockets_are_asked_to_go_however_busy_they_are) {
    for (int round = 0; round < 20; round++) {
        Aged aged;
        uwserve::Lifecycle &lifecycle = aged.server.instance->lifecycle();
        lifecycle.idle_timeout.set_schedule(PingSchedule(0, false, 0));
        lifecycle.set_max_lifetime(100);
        unsigned second = 0;
        std::string heard;
        while (aged.peer().ws && second < 200) {
            aged.pass(1);
            second++;
            heard = aged.hear();
            if (aged.peer().ws) aged.say_pong();
        }
        CHECK(second >= 90 && second <= 102);
        CHECK(heard == close_frame("too old"));
        CHECK_EQ(aged.peer().code, 1001);
    }
}

TEST(lifetimes_are_spread_over_a_tenth) {
    instance_server_t server;
    server.instance->lifecycle().set_max_lifetime(1000);
    unsigned low = UINT32_MAX, high = 0;
    us_socket_context_t *ws = server.instance->ws_context();
    std::vector<int> clients;
    for (int i = 0; i < 200; i++) {
        int ends[2];
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
        clients.push_back(ends[0]);
        us_socket_t *s = us_socket_new(ws, ends[1], 256);
        memset(us_socket_ext(0, s), 0, 256);
        server.instance->lifecycle().opened(s);
        unsigned left = us_socket_long_left(s);
        low = std::min(low, left);
        high = std::max(high, left);
    }
    CHECK(low >= 900 && low < 925);
    CHECK(high > 975 && high <= 1000);
    while (ws->head_) us_socket_discard(ws->head_);
    for (int fd : clients) close(fd);
}

TEST(a_new_lifetime_counts_for_open_sockets) {
    Aged aged;
    uwserve::Lifecycle &lifecycle = aged.server.instance->lifecycle();
    lifecycle.idle_timeout.set_schedule(PingSchedule(0, false, 0));
    aged.pass(10'000);
    lifecycle.set_max_lifetime(100);  // off before: the age counts from here
    CHECK(us_socket_long_left(aged.socket()) >= 90 && us_socket_long_left(aged.socket()) <= 100);
    aged.pass(50);
    lifecycle.set_max_lifetime(300);  // the age is kept
    unsigned left = us_socket_long_left(aged.socket());
    CHECK(left >= 239 && left <= 250);
    aged.pass(200);
    CHECK(aged.peer().ws);
    lifecycle.set_max_lifetime(100);  // too old by now: within a tenth
    CHECK(us_socket_long_left(aged.socket()) >= 1 && us_socket_long_left(aged.socket()) <= 11);
    lifecycle.set_max_lifetime(0);
    CHECK_EQ(us_socket_long_left(aged.socket()), 0);
    aged.pass(1'000'000);
    CHECK(aged.peer().ws);
}

TEST(short_lifetimes_are_kept_to_the_second) {
    Aged aged;
    aged.server.instance->lifecycle().set_max_lifetime(3);
    unsigned after = aged.until_something(20);
    CHECK(after >= 3 && after <= 5);
    CHECK_EQ(aged.peer().code, 1001);
}

// A socket that is closing has its own deadline: neither pings nor its age disturb it.
TEST(a_closing_socket_is_left_alone) {
    Aged aged;
    uwserve::Lifecycle &lifecycle = aged.server.instance->lifecycle();
    lifecycle.idle_timeout.set_schedule(PingSchedule(0, true, 5));
    lifecycle.set_max_lifetime(9);
    us_socket_t *s = aged.socket();
    aged.server.end(aged.peer(), 1000, "");
    us_socket_arm(s, 0);
    CHECK(aged.hear() == std::string("\x88\2\x03\xe8", 4));
    for (int i = 0; i < 30; i++) aged.pass(1);
    CHECK(aged.hear().empty());
    CHECK(!s->closed);
}
