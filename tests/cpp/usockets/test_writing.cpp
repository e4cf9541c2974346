// test_writing.cpp - short writes, the blocked state, the unsent tail (defects S1, S2), shutdown behind a backlog.
//
// The streams are compared byte for byte. The reader is slow and the send buffer tiny, so that nearly every write of the
// larger tests is short somewhere: in the header, at its end, in the payload.
#include "server.h"
#include "usockets/tcp/read.h"
#include "usockets/tcp/write.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

static void shrink(us_socket_t *s) {
    const int small = 4096;
    CHECK_EQ(setsockopt(s->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
}

static std::string pattern(size_t length, unsigned seed) {
    std::string out(length, 0);
    for (char &c : out) {
        seed = seed * 1664525u + 1013904223u;
        c = (char) (seed >> 24);
    }
    return out;
}

// Reads at most `limit` bytes.
static void sip(int fd, std::string *into, size_t limit) {
    std::string buffer(limit, 0);
    const ssize_t n = recv(fd, buffer.data(), limit, MSG_DONTWAIT);
    if (n > 0) into->append(buffer.data(), (size_t) n);
}

TEST(blocked_socket_costs_no_syscalls) {
    server_t server;
    const int fd = server.connect_client(4096);
    us_socket_t *s = server.http.last;
    shrink(s);
    const std::string big = pattern(1 << 20, 1);
    const int taken = us_socket_write(0, s, big.data(), (int) big.size(), 0);
    CHECK(taken > 0 && taken < (int) big.size());
    CHECK(s->blocked);
    CHECK_EQ(server.loop->num_blocked, 1);
    CHECK(s->interest_ & EPOLLOUT);
    {
        count_calls_t count;
        for (int i = 0; i < 1000; i++) CHECK_EQ(us_socket_write(0, s, big.data(), 100, 0), 0);
        CHECK_EQ(count.writes(), 0);
    }
    int writables = 0, offset = taken;
    std::string heard;
    server.http.writable = [&](us_socket_t *w) {
        writables++;
        CHECK_EQ(server.loop->phase, US_PHASE_WRITABLE);
        CHECK(!w->blocked);
        offset += us_socket_write(0, w, big.data() + offset, (int) big.size() - offset, 0);
    };
    server.pump([&] { return (heard += hear(fd)).size() == big.size(); });
    CHECK(heard == big);
    CHECK(writables > 0);
    CHECK_EQ(server.loop->num_blocked, 0);
    const int so_far = writables;
    for (int i = 0; i < 10; i++) us_loop_iterate(server.loop, 0);
    CHECK_EQ(writables, so_far);  // no EPOLLOUT left behind
    close(fd);
}

TEST(closing_a_blocked_socket_keeps_the_count_right) {
    server_t server;
    const int fd = server.connect_client(4096);
    const std::string big(4 << 20, 'x');
    us_socket_write(0, server.http.last, big.data(), (int) big.size(), 0);
    CHECK_EQ(server.loop->num_blocked, 1);
    us_socket_close(0, server.http.last, 0, nullptr);
    CHECK_EQ(server.loop->num_blocked, 0);
    close(fd);
}

TEST(lengths) {
    server_t server;
    const int fd = server.connect_client();
    us_socket_t *s = server.http.last;
    CHECK_EQ(us_socket_write(0, s, "x", 0, 0), 0);
    CHECK_EQ(us_socket_write2(0, s, "x", 0, "x", 0), 0);
    CHECK(!s->blocked);
    CHECK_EQ(us_socket_write2(0, s, "ab", 2, "cd", 2), 4);
    CHECK_EQ(us_socket_write2(0, s, "ef", 2, "", 0), 2);
    std::string heard;
    server.pump([&] { return (heard += hear(fd)) == "abcdef"; });
    close(fd);
}

// A length of 2 to 4 GiB arrives negative: what the kernel is asked for must be positive and at most 1 GiB.
TEST(negative_length_is_unsigned_and_clamped) {
    server_t server;
    const int fd = server.connect_client();
    static size_t asked;
    us_sys_hook = [](us_sys_call_t call, size_t *length) {
        if (call == US_SYS_SEND) {
            asked = *length;
            *length = 1;
        }
        return 0;
    };
    CHECK_EQ(us_socket_write(0, server.http.last, "x", (int) 0x90000000u, 0), 1);
    us_sys_hook = nullptr;
    CHECK_EQ(asked, 1u << 30);
    close(fd);
}

TEST(msg_more_keeps_a_tail_and_stays_in_order) {
    server_t server;
    const int fd = server.connect_client(4096);
    us_socket_t *s = server.http.last;
    shrink(s);
    int writables = 0;
    server.http.writable = [&](us_socket_t *w) {
        writables++;
        CHECK_EQ(us_socket_unsent_bytes(w), 0);  // flushed before
    };
    std::string sent, heard;
    unsigned seed = 7;
    bool has_tail = false;
    while (sent.size() < (3u << 20)) {
        seed = seed * 1664525u + 1013904223u;
        const std::string chunk = pattern(1 + (seed >> 8) % (16 * 1024), seed);
        const bool more = seed & (1 << 30);
        const int n = us_socket_write(0, s, chunk.data(), (int) chunk.size(), more);
        CHECK(n >= 0 && n <= (int) chunk.size());
        if (more && !has_tail && s->blocked && us_socket_unsent_bytes(s)) {
            CHECK_EQ(n, chunk.size());
            has_tail = true;
        }
        CHECK(us_socket_unsent_bytes(s) <= 32 * 1024);
        CHECK(!us_socket_unsent_bytes(s) || s->blocked);
        sent.append(chunk.data(), (size_t) n);
        sip(fd, &heard, 3000);
        us_loop_iterate(server.loop, 0);
    }
    CHECK(has_tail && writables > 0);
    server.pump([&] { return (heard += hear(fd)).size() == sent.size(); });
    CHECK(heard == sent);
    close(fd);
}

// A large msg_more write keeps no tail: it returns what the kernel accepted.
TEST(large_msg_more_keeps_no_tail) {
    server_t server;
    const int fd = server.connect_client(4096);
    const std::string big = pattern(4 << 20, 3);
    const int n = us_socket_write(0, server.http.last, big.data(), (int) big.size(), 1);
    CHECK(n > 0 && n < (int) big.size());
    CHECK_EQ(us_socket_unsent_bytes(server.http.last), 0);
    close(fd);
}

// Writes frames the way uWebSockets does: what write2 did not take goes to a backlog that on_writable drains.
TEST(write2_never_stops_in_the_header) {
    server_t server;
    const int fd = server.connect_client(4096);
    us_socket_t *s = server.http.last;
    shrink(s);
    std::string expected, backlog, heard;
    server.http.writable = [&](us_socket_t *w) {
        const int n = us_socket_write(0, w, backlog.data(), (int) backlog.size(), 0);
        backlog.erase(0, (size_t) n);
    };
    int at_header = 0, while_blocked = 0;
    for (unsigned i = 0; expected.size() < (6u << 20); i++) {
        const std::string header = pattern(10, i), payload = pattern(16384 + i * 37 % 5000, i + 1000);
        const bool was_blocked = s->blocked;
        const int n = us_socket_write2(0, s, header.data(), 10, payload.data(), (int) payload.size());
        CHECK(n > 10 && n <= 10 + (int) payload.size());
        at_header += n == 11;
        while_blocked += was_blocked;
        expected += header + payload;
        backlog.append(payload, (size_t) n - 10);
        if (n < 10 + (int) payload.size()) CHECK(s->blocked);
        // drain the backlog; leave the socket blocked with an empty backlog now and then (an optional write would)
        while (!backlog.empty()) {
            sip(fd, &heard, 2500);
            us_loop_iterate(server.loop, 0);
        }
        if (i % 3 == 0 && !s->blocked) {
            const std::string filler = pattern(1 << 20, i);
            const int m = us_socket_write(0, s, filler.data(), (int) filler.size(), 0);
            expected.append(filler, 0, (size_t) m);
            CHECK(s->blocked);
        }
    }
    CHECK(at_header > 0 && while_blocked > 0);
    server.pump([&] { return (heard += hear(fd)).size() == expected.size(); });
    CHECK(heard == expected);
    close(fd);
}

// Every possible short count of the sendmsg: in the header, at its end, in the payload; and of a msg_more write with a tail.
TEST(every_split) {
    const std::string frame = "0123456789ABCD";
    static size_t cut;
    for (cut = 0; cut <= 14; cut++) {
        for (bool two_parts : {true, false}) {
            server_t server;
            const int fd = server.connect_client();
            us_socket_t *s = server.http.last;
            us_sys_hook = [](us_sys_call_t call, size_t *length) {
                if (call != US_SYS_SEND && call != US_SYS_SENDMSG) return 0;
                *length = cut;
                return cut ? 0 : EAGAIN;
            };
            const int n = two_parts ? us_socket_write2(0, s, frame.data(), 10, frame.data() + 10, 4)
                                    : us_socket_write(0, s, frame.data(), 14, 1);
            us_sys_hook = nullptr;
            const int taken = !two_parts ? 14 : cut <= 10 ? 11 : (int) cut;
            CHECK_EQ(n, taken);
            CHECK_EQ(us_socket_unsent_bytes(s), taken - (int) cut);
            CHECK_EQ(s->blocked, cut < 14);
            std::string heard;
            server.pump([&] { return (heard += hear(fd)) == frame.substr(0, (size_t) taken) && !s->blocked; });
            close(fd);
        }
    }
}

// Without a payload, and with an unsent tail already there.
TEST(write2_behind_an_unsent_tail) {
    server_t server;
    const int fd = server.connect_client();
    us_socket_t *s = server.http.last;
    us_sys_hook = [](us_sys_call_t call, size_t *) {
        return call == US_SYS_SEND || call == US_SYS_SENDMSG ? EAGAIN : 0;
    };
    CHECK_EQ(us_socket_write(0, s, "tail!", 5, 1), 5);
    CHECK_EQ(us_socket_write(0, s, "more", 4, 1), 4);
    CHECK_EQ(us_socket_write(0, s, "no", 2, 0), 0);
    CHECK_EQ(us_socket_write2(0, s, "HEAD", 4, "payload", 7), 5);
    CHECK_EQ(us_socket_write2(0, s, "bare", 4, "", 0), 4);
    us_sys_hook = nullptr;
    std::string heard;
    server.pump([&] { return (heard += hear(fd)) == "tail!moreHEADpbare"; });
    close(fd);
}

TEST(shutdown_waits_for_the_unsent_tail) {
    server_t server;
    const int fd = server.connect_client(4096);
    us_socket_t *s = server.http.last;
    shrink(s);
    std::string sent;
    while (!us_socket_unsent_bytes(s)) {
        const std::string chunk = pattern(16000, (unsigned) sent.size());
        sent.append(chunk, 0, (size_t) us_socket_write(0, s, chunk.data(), (int) chunk.size(), 1));
    }
    int writables = 0;
    server.http.writable = [&](us_socket_t *) { writables++; };
    us_socket_shutdown(0, s);
    us_socket_shutdown(0, s);
    CHECK(us_socket_is_shut_down(0, s));
    CHECK_EQ(us_socket_write(0, s, "late", 4, 0), 0);
    std::string heard;
    int ended = 0;
    server.pump([&] {
        heard += hear(fd, &ended);
        return ended == 1;
    });
    CHECK(heard == sent);
    CHECK_EQ(writables, 0);
    CHECK_EQ(server.loop->num_blocked, 0);
    say(fd, "still read");
    server.pump([&] { return server.http.received == "still read"; });
    close(fd);
    server.pump_until(server.http.closed, 1);
}

// The peer half-closes first; our last bytes must still get out.
TEST(peer_fin_does_not_drop_the_unsent_tail) {
    server_t server;
    const int fd = server.connect_client(4096);
    us_socket_t *s = server.http.last;
    shrink(s);
    std::string sent;
    while (!us_socket_unsent_bytes(s)) {
        const std::string chunk = pattern(16000, (unsigned) sent.size());
        sent.append(chunk, 0, (size_t) us_socket_write(0, s, chunk.data(), (int) chunk.size(), 1));
    }
    us_socket_shutdown(0, s);
    shutdown(fd, SHUT_WR);
    for (int i = 0; i < 3; i++) us_loop_iterate(server.loop, 0);
    CHECK_EQ(server.http.closed, 0);
    std::string heard;
    int ended = 0;
    server.pump([&] {
        heard += hear(fd, &ended);
        return ended == 1;
    });
    CHECK(heard == sent);
    server.pump_until(server.http.closed, 1);
    close(fd);
}

TEST(what_is_held_is_pushed_once) {
    server_t server;
    const int fd = server.connect_client(4096);
    us_socket_t *s = server.http.last;
    const auto pushes = [s] {
        count_calls_t count;
        us_socket_push(s);
        return count[US_SYS_SETSOCKOPT];
    };
    us_socket_hold(s);
    CHECK_EQ(pushes(), 0);  // nothing was sent
    const auto waiting = [s] {
        int bytes = -1;
        CHECK_EQ(ioctl(s->fd, SIOCOUTQNSD, &bytes), 0);
        return bytes;
    };
    us_socket_hold(s);
    CHECK_EQ(us_socket_write(0, s, "one", 3, 0), 3);
    CHECK_EQ(us_socket_write2(0, s, "t", 1, "wo", 2), 3);
    CHECK_EQ(waiting(), 6);
    CHECK_EQ(pushes(), 1);
    CHECK_EQ(waiting(), 0);
    CHECK_EQ(pushes(), 0);
    us_socket_hold(s);
    CHECK_EQ(us_socket_write(0, s, "three", 5, 0), 5);
    us_socket_release(s);
    CHECK_EQ(us_socket_write(0, s, "four", 4, 0), 4);
    CHECK_EQ(pushes(), 0);  // the last write has done it
    us_socket_hold(s);
    CHECK_EQ(us_socket_write(0, s, "five", 4, 0), 4);
    us_socket_close(0, s, 0, nullptr);
    CHECK_EQ(pushes(), 0);
    std::string heard;
    server.pump([&] { return (heard += hear(fd)).size() == 19; });
    CHECK(heard == "onetwothreefourfive");
    close(fd);
}

// With input that nobody has read, closing resets the connection, and that takes what was not pushed along.
TEST(what_is_held_goes_out_before_a_reset) {
    server_t server;
    const int fd = server.connect_client(1 << 16);
    us_socket_t *s = server.http.last;
    us_socket_pause(s, US_PAUSE_USER);
    say(fd, "unread");
    us_socket_hold(s);
    CHECK_EQ(us_socket_write(0, s, "held", 4, 0), 4);
    count_calls_t count;
    us_socket_close(0, s, 0, nullptr);
    CHECK_EQ(count[US_SYS_SETSOCKOPT], 1);
    close(fd);
}

// A fatal write answers 0 and calls nothing back; the loop closes the socket, after what the peer had sent was read.
TEST(fatal_write_closes_at_the_end_of_the_iteration) {
    for (bool inside : {false, true}) {
        server_t server;
        const int fd = server.connect_client();
        us_socket_t *s = server.http.last;
        bool writing = false;
        server.http.close = [&](us_socket_t *, int code, void *reason) { CHECK(!writing && !code && !reason); };
        auto write_in_vain = [&] {
            writing = true;
            us_sys_hook = [](us_sys_call_t call, size_t *) { return call == US_SYS_SEND ? EPIPE : 0; };
            CHECK_EQ(us_socket_write(0, s, "x", 1, 0), 0);
            us_sys_hook = nullptr;
            CHECK_EQ(us_socket_write(0, s, "x", 1, 1), 0);
            CHECK_EQ(us_socket_write2(0, s, "x", 1, "y", 1), 0);
            CHECK(!us_socket_is_closed(0, s));
            writing = false;
        };
        if (inside) {
            server.http.data = [&](us_socket_t *, char *data, int length) {
                server.http.received.append(data, (size_t) length);
                write_in_vain();
            };
            say(fd, "go");
            us_loop_iterate(server.loop, 100);
        } else {
            say(fd, "go");
            write_in_vain();
            us_loop_iterate(server.loop, 5000);  // was woken
        }
        CHECK_EQ(server.http.closed, 1);
        CHECK(server.http.received == "go");
        close(fd);
    }
}

TEST(no_sigpipe) {
    signal(SIGPIPE, [](int) { abort(); });
    server_t server;
    const int fd = server.connect_client();
    us_socket_t *s = server.http.last;
    us_socket_pause(s, US_PAUSE_USER);
    close(fd);
    for (int i = 0; i < 100 && !server.http.closed; i++) {
        us_socket_write2(0, s, "head", 4, "payload", 7);
        us_loop_iterate(server.loop, 1);
    }
    CHECK_EQ(server.http.closed, 1);
    signal(SIGPIPE, SIG_DFL);
}

// Short writes made inside on_writable must keep EPOLLOUT (defect U1), by write and by write2.
TEST(short_write_inside_on_writable_is_followed_by_another) {
    server_t server;
    const int fd = server.connect_client(4096);
    us_socket_t *s = server.http.last;
    shrink(s);
    const std::string block = pattern(200000, 5);
    std::string sent, heard;
    int rounds = 0;
    auto fill = [&](us_socket_t *w) {
        const int n = us_socket_write2(0, w, block.data(), 10, block.data() + 10, (int) block.size() - 10);
        sent.append(block, 0, (size_t) n);
        CHECK(w->blocked);
    };
    server.http.writable = [&](us_socket_t *w) {
        if (rounds++ < 20) fill(w);
    };
    fill(s);
    server.pump([&] {
        heard += hear(fd);
        return rounds > 20 && heard.size() == sent.size();
    });
    CHECK(heard == sent);
    close(fd);
}
