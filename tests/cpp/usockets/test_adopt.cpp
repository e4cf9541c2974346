// test_adopt.cpp - adopt always moves, the old block stays readable, nothing of the connection is lost on the way.
#include "server.h"
#include "usockets/loop/timeout_wheel.h"
#include "usockets/tcp/read.h"
#include "usockets/tcp/write.h"

struct adopting_t : server_t {
    context_t ws{us_create_child_socket_context(0, http.context, sizeof(void *))};
    ~adopting_t() { us_socket_context_free(0, ws.context); }
};

TEST(adopt_always_moves) {
    adopting_t server;
    const int fd = server.connect_client();
    us_socket_t *before = nullptr, *after = nullptr;
    server.http.data = [&](us_socket_t *s, char *, int) {
        before = s;
        us_socket_timeout(0, s, 1);
        us_socket_deadline(s, 1);
        s->user = &server;
        s->user_bits = 0xa5;
        s->pause_reasons = 0;
        memset(us_socket_ext(0, s), 0x11, 64);
        after = us_socket_context_adopt_socket(0, server.ws.context, s, 256);
        CHECK(after != s);
        CHECK(s->moved_to == after);
        CHECK(us_socket_is_closed(0, s) && !us_socket_is_closed(0, after));
        CHECK(us_socket_context(0, s) == server.http.context);
        CHECK(us_socket_context(0, after) == server.ws.context);
        CHECK_EQ(((unsigned char *) us_socket_ext(0, s))[63], 0x11);
        CHECK(after->user == &server && after->user_bits == 0xa5);
        CHECK(!after->deadline_ && !after->hard_deadline_ && !after->check_at_);
        CHECK_EQ(after->ip_length, 4);
        memset(us_socket_ext(0, after), 0x22, 256);
        us_socket_close(0, s, 0, nullptr); // the old pointer: no effect
        us_socket_timeout(0, s, 1);
        CHECK_EQ(us_socket_write(0, s, "x", 1, 0), 0);
        CHECK_EQ(us_socket_write(0, after, "moved", 5, 0), 5);
    };
    say(fd, "upgrade");
    std::string heard;
    server.pump([&] { return (heard += hear(fd)) == "moved"; });
    say(fd, "more");
    server.pump([&] { return server.ws.received == "more"; });
    CHECK_EQ(server.http.closed, 0);
    CHECK_EQ(server.loop->num_polls, 2);
    CHECK_EQ(server.http.context->num_sockets, 0);
    close(fd);
    server.pump_until(server.ws.closed, 1);
}

TEST(adopt_into_the_same_context) {
    adopting_t server;
    const int fd = server.connect_client();
    us_socket_t *s = us_socket_context_adopt_socket(0, server.http.context, server.http.last, 16);
    CHECK(s != server.http.last);
    say(fd, "a");
    server.pump([&] { return server.http.received == "a"; });
    close(fd);
    server.pump_until(server.http.closed, 1);
}

TEST(adopt_of_a_closed_socket_gives_a_closed_block) {
    adopting_t server;
    const int fd = server.connect_client();
    us_socket_t *s = server.http.last;
    us_socket_close(0, s, 0, nullptr);
    us_socket_t *dead = us_socket_context_adopt_socket(0, server.ws.context, s, 4096);
    CHECK(dead != s && us_socket_is_closed(0, dead));
    memset(us_socket_ext(0, dead), 1, 4096);
    us_socket_timeout(0, dead, 5);
    us_socket_close(0, dead, 0, nullptr);
    us_loop_iterate(server.loop, 0);
    CHECK_EQ(server.ws.closed, 0);
    CHECK_EQ(server.http.closed, 1);
    close(fd);
}

// Its event is already in the batch, with the old block's address.
TEST(event_of_a_socket_adopted_in_the_same_batch) {
    adopting_t server;
    const int a = server.connect_client();
    us_socket_t *sa = server.http.last;
    const int b = server.connect_client();
    us_socket_t *sb = server.http.last;
    server.http.data = [&](us_socket_t *s, char *, int) {
        us_socket_context_adopt_socket(0, server.ws.context, s == sa ? sb : sa, 32);
    };
    say(a, "x");
    say(b, "x");
    us_loop_iterate(server.loop, 100);
    CHECK(server.ws.received == "x");
    close(a);
    close(b);
}

TEST(adopt_keeps_unsent_tail_blocked_and_pause) {
    adopting_t server;
    const int fd = server.connect_client(4096);
    us_socket_t *s = server.http.last;
    std::string sent;
    const std::string chunk(10000, 's');
    while (!s->blocked) {
        const int n = us_socket_write(0, s, chunk.data(), (int) chunk.size(), 1);
        sent.append(chunk.data(), (size_t) n);
    }
    CHECK(us_socket_unsent_bytes(s) > 0);
    const size_t unsent = us_socket_unsent_bytes(s);
    us_socket_pause(s, US_PAUSE_USER);
    us_socket_t *moved = us_socket_context_adopt_socket(0, server.ws.context, s, 8);
    CHECK_EQ(us_socket_unsent_bytes(moved), unsent);
    CHECK_EQ(us_socket_unsent_bytes(s), 0);
    CHECK(moved->blocked && moved->pause_reasons == US_PAUSE_USER);
    CHECK_EQ(server.loop->num_blocked, 1);
    int writable = 0;
    server.ws.writable = [&](us_socket_t *) { writable++; };
    std::string heard;
    server.pump([&] { return (heard += hear(fd)).size() == sent.size() && writable == 1; });
    CHECK(heard == sent);
    CHECK_EQ(server.loop->num_blocked, 0);
    close(fd);
    us_socket_resume(moved, US_PAUSE_USER);
    server.pump_until(server.ws.closed, 1);
}

TEST(adopt_of_a_socket_with_pending_shutdown_read) {
    adopting_t server;
    const int fd = server.connect_client();
    us_socket_shutdown_read(0, server.http.last);
    us_socket_context_adopt_socket(0, server.ws.context, server.http.last, 8);
    us_loop_iterate(server.loop, 100);
    CHECK_EQ(server.http.closed, 0);
    CHECK_EQ(server.ws.closed, 1);
    close(fd);
}

TEST(adopt_accepted_descriptor) {
    server_t server(false);
    int pair[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    us_socket_t *s = us_adopt_accepted_socket(0, server.http.context, pair[0], 16, nullptr, 0);
    CHECK(s && server.http.opened == 1);
    say(pair[1], "hi");
    server.pump([&] { return server.http.received == "hi"; });
    CHECK_EQ(us_socket_remote_port(0, s), -1);
    close(pair[1]);
    server.pump_until(server.http.closed, 1);
}
