// test_ending.cpp - the ways a connection ends: FIN, half-open, reset, draining, shutdown_read, and none of them may spin.
#include "server.h"
#include "usockets/tcp/draining_close.h"
#include "usockets/tcp/read.h"

// Iterates for a while and fails if the loop keeps finding events it does nothing useful with.
static void must_be_idle(server_t &server) {
    for (int i = 0; i < 3; i++) us_loop_iterate(server.loop, 0);
    count_calls_t count;
    for (int i = 0; i < 20; i++) us_loop_iterate(server.loop, 0);
    CHECK_EQ(count[US_SYS_RECV] + count[US_SYS_EPOLL_CTL] + count[US_SYS_SHUTDOWN], 0);
    pollfd p{us_loop_fd(server.loop), POLLIN, 0};
    CHECK_EQ(poll(&p, 1, 0), 0);  // epoll itself has nothing to report
}

TEST(half_open_peer) {
    server_t server;
    const int fd = server.connect_client();
    us_socket_t *s = server.http.last;
    int ends = 0;
    server.http.end = [&](us_socket_t *e) {
        CHECK_EQ(server.loop->phase, US_PHASE_END);
        CHECK(e->peer_ended);
        ends++;
    };
    say(fd, "request");
    shutdown(fd, SHUT_WR);
    server.pump_until(ends, 1);
    CHECK(server.http.received == "request");
    must_be_idle(server);
    CHECK_EQ(us_socket_write(0, s, "response", 8, 0), 8);
    std::string heard;
    server.pump([&] { return (heard += hear(fd)) == "response"; });
    us_socket_shutdown(0, s);  // now both sides are done
    server.pump_until(server.http.closed, 1);
    CHECK_EQ(ends, 1);
    close(fd);
}

TEST(fin_after_our_fin_closes) {
    server_t server;
    const int fd = server.connect_client();
    int ends = 0;
    server.http.end = [&](us_socket_t *) { ends++; };
    us_socket_shutdown(0, server.http.last);
    must_be_idle(server);
    close(fd);
    server.pump_until(server.http.closed, 1);
    CHECK_EQ(ends, 0);
}

TEST(reset_in_every_state) {
    enum { READING, PAUSED, HALF_OPEN, SHUT_DOWN, BLOCKED, BLOCKED_AND_PAUSED, STATES };
    for (int state = 0; state < STATES; state++) {
        server_t server;
        const int fd = server.connect_client(4096);
        us_socket_t *s = server.http.last;
        int ends = 0;
        server.http.end = [&](us_socket_t *) { ends++; };
        const std::string big(4 << 20, 'x');
        if (state == PAUSED || state == BLOCKED_AND_PAUSED) us_socket_pause(s, US_PAUSE_USER);
        if (state == BLOCKED || state == BLOCKED_AND_PAUSED) us_socket_write(0, s, big.data(), (int) big.size(), 0);
        if (state == SHUT_DOWN) us_socket_shutdown(0, s);
        if (state == HALF_OPEN) {
            shutdown(fd, SHUT_WR);
            server.pump_until(ends, 1);
        }
        us_loop_iterate(server.loop, 0);
        reset(fd);
        server.pump_until(server.http.closed, 1);
        CHECK_EQ(server.loop->num_blocked, 0);
    }
}

TEST(data_before_a_reset_is_delivered) {
    server_t server;
    const int fd = server.connect_client();
    const std::string text(300000, 'd');
    say(fd, text);
    say(fd, "end");
    close(fd);  // FIN right behind the data: HUP must not win
    server.pump_until(server.http.closed, 1);
    CHECK(server.http.received == text + "end");
}

// A unix peer that closes raises EPOLLHUP at once, with its bytes still unread.
TEST(unix_peer_gone_with_unread_bytes) {
    for (bool paused : {false, true}) {
        server_t server(false);
        int pair[2];
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        us_socket_t *s = us_adopt_accepted_socket(0, server.http.context, pair[0], 0, nullptr, 0);
        if (paused) us_socket_pause(s, US_PAUSE_USER);
        say(pair[1], "last words");
        close(pair[1]);
        if (paused) {
            must_be_idle(server);
            CHECK_EQ(server.http.closed, 0);
            us_socket_resume(s, US_PAUSE_USER);
        }
        server.pump_until(server.http.closed, 1);
        CHECK(server.http.received == "last words");
    }
}

TEST(unix_peer_gone_while_paused_with_nothing_unread) {
    server_t server(false);
    int pair[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    us_socket_pause(us_adopt_accepted_socket(0, server.http.context, pair[0], 0, nullptr, 0), US_PAUSE_USER);
    close(pair[1]);
    server.pump_until(server.http.closed, 1);
}

TEST(unregistered_socket_can_be_closed_and_adopted) {
    for (int way = 0; way < 3; way++) {
        server_t server(false);
        int pair[2];
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        us_socket_t *s = us_adopt_accepted_socket(0, server.http.context, pair[0], 0, nullptr, 0);
        us_socket_pause(s, US_PAUSE_USER);
        say(pair[1], "x");
        close(pair[1]);
        must_be_idle(server);
        if (way == 0) {
            us_socket_close(0, s, 0, nullptr);
        } else if (way == 1) {
            us_socket_shutdown_read(0, s);
        } else {
            s = us_socket_context_adopt_socket(0, server.http.context, s, 8);
            us_socket_resume(s, US_PAUSE_USER);
        }
        server.pump_until(server.http.closed, 1);
    }
}

// The peer has sent bytes that we never read; a plain close() would reset the connection and destroy our last words.
TEST(draining_close_delivers_the_last_bytes) {
    server_t server;
    const int before = count_fds();
    const int fd = server.connect_client();
    server.http.data = [&](us_socket_t *s, char *, int) {
        CHECK_EQ(us_socket_write(0, s, "431 too large", 13, 0), 13);
        us_socket_shutdown(0, s);
        us_socket_close(0, s, 0, nullptr);
    };
    const std::string flood(1 << 20, 'f');
    while (send(fd, flood.data(), flood.size(), MSG_NOSIGNAL | MSG_DONTWAIT) > 0) {
    }
    server.pump_until(server.http.closed, 1);
    CHECK_EQ(server.loop->num_polls, 1);  // a draining descriptor does not count
    for (int i = 0; i < 10; i++) {
        send(fd, flood.data(), flood.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        us_loop_iterate(server.loop, 1);
    }
    int ended = 0;
    CHECK(hear(fd, &ended) == "431 too large");
    CHECK_EQ(ended, 1);
    CHECK_EQ(count_fds(), before + 2);
    close(fd);
    server.pump([&] { return count_fds() == before; });
}

TEST(draining_close_ends_after_two_seconds) {
    server_t server;
    const int fd = server.connect_client();
    const int with_server_side = count_fds();
    const uint64_t start = us_sys_now_ns();
    us_socket_shutdown(0, server.http.last);
    us_socket_close(0, server.http.last, 0, nullptr);
    CHECK_EQ(count_fds(), with_server_side);
    int iterations = 0;
    while (count_fds() == with_server_side) {
        us_loop_iterate(server.loop, 3000);  // its own timer wakes it
        CHECK(++iterations < 10);
    }
    const uint64_t took = us_sys_now_ns() - start;
    CHECK(took >= 2'000'000'000 && took < 3'000'000'000);
    close(fd);
}

TEST(loop_free_closes_draining_descriptors) {
    const int before = count_fds();
    int fd;
    {
        server_t server;
        fd = server.connect_client();
        us_socket_shutdown(0, server.http.last);
        us_socket_close(0, server.http.last, 0, nullptr);
    }
    close(fd);
    CHECK_EQ(count_fds(), before);
}

// For a newcomer: the oldest goes, and its number is the newcomer's if that is lower. The loop forgets it.
TEST(a_draining_connection_makes_room) {
    server_t server;
    const int before = count_fds();
    CHECK_EQ(us_draining_make_room(server.loop, nullptr), 0);
    const int first = server.connect_client();
    us_socket_shutdown(0, server.http.last);
    us_socket_close(0, server.http.last, 0, nullptr);
    const int second = server.connect_client();
    us_socket_shutdown(0, server.http.last);
    us_socket_close(0, server.http.last, 0, nullptr);
    CHECK_EQ(us_draining_count(server.loop), 2u);

    int newcomer = dup(0);
    const int number = newcomer;
    CHECK_EQ(us_draining_make_room(server.loop, &newcomer), 1);
    CHECK(newcomer < number);
    CHECK(fcntl(newcomer, F_GETFD) == FD_CLOEXEC);
    CHECK_EQ(fcntl(number, F_GETFD), -1);
    CHECK_EQ(us_draining_count(server.loop), 1u);
    must_be_idle(server);
    int ended = 0;
    hear(first, &ended);
    CHECK_EQ(ended, 1);
    close(newcomer);

    int failing = dup(0);
    const int kept = failing;
    us_sys_hook = [](us_sys_call_t call, size_t *) { return call == US_SYS_DUP ? EMFILE : 0; };
    CHECK_EQ(us_draining_make_room(server.loop, &failing), 1);
    us_sys_hook = nullptr;
    CHECK_EQ(failing, kept);  // there is room all the same
    close(failing);
    CHECK_EQ(us_draining_count(server.loop), 0u);
    close(first);
    close(second);
    server.pump([&] { return count_fds() == before; });
}

TEST(no_draining_when_both_sides_are_done) {
    server_t server;
    const int before = count_fds();
    const int fd = server.connect_client();
    us_socket_shutdown(0, server.http.last);
    close(fd);
    server.pump_until(server.http.closed, 1);
    CHECK_EQ(count_fds(), before);
}

TEST(shutdown_read_delivers_on_end_after_post_once) {
    server_t server;
    const int fd = server.connect_client();
    us_socket_t *s = server.http.last;
    int ends = 0, reads = 0;
    bool post_done = false;
    server.http.end = [&](us_socket_t *) {
        CHECK(post_done);
        ends++;
    };
    server.http.data = [&](us_socket_t *r, char *, int) {
        reads++;
        post_done = false;
        us_socket_shutdown_read(0, r);
        us_socket_shutdown_read(0, r);
        CHECK_EQ(ends, 0);
    };
    server_t::on_post = [&] { post_done = true; };
    say(fd, "x");
    server.pump_until(reads, 1);
    CHECK_EQ(ends, 1);
    say(fd, "y");  // not read any more
    must_be_idle(server);
    CHECK_EQ(reads, 1);
    CHECK_EQ(ends, 1);
    us_socket_close(0, s, 0, nullptr);
    close(fd);
}

TEST(shutdown_read_from_outside_and_while_paused) {
    server_t server;
    const int fd = server.connect_client();
    us_socket_pause(server.http.last, US_PAUSE_USER);
    us_socket_shutdown_read(0, server.http.last);
    CHECK_EQ(server.http.closed, 0);
    us_loop_iterate(server.loop, 5000);  // woken
    CHECK_EQ(server.http.closed, 1);
    close(fd);
}

TEST(shutdown_read_of_a_socket_closed_meanwhile) {
    server_t server;
    const int fd = server.connect_client();
    int ends = 0;
    server.http.end = [&](us_socket_t *) { ends++; };
    us_socket_shutdown_read(0, server.http.last);
    us_socket_close(0, server.http.last, 0, nullptr);
    for (int i = 0; i < 3; i++) us_loop_iterate(server.loop, 0);
    CHECK_EQ(ends, 0);
    CHECK_EQ(server.http.closed, 1);
    close(fd);
}

TEST(a_last_frame_before_the_close_arrives) {
    server_t server;
    const int fd = server.connect_client();
    server.http.close = [&](us_socket_t *, int code, void *reason) {
        CHECK_EQ(code, 3);
        CHECK(!strcmp((char *) reason, "big"));
    };
    static char reason[] = "big";
    server.http.data = [&](us_socket_t *s, char *, int) {
        CHECK_EQ(us_socket_write(0, s, "frame", 5, 0), 5);
        us_socket_shutdown(0, s);
        us_socket_close(0, s, 3, reason);
    };
    say(fd, "x");
    server.pump_until(server.http.closed, 1);
    int ended = 0;
    CHECK(hear(fd, &ended) == "frame");
    CHECK_EQ(ended, 1);
    close(fd);
}
