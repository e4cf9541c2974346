// test_sockets.cpp - accept, echo, close; when on_close is called; contexts; many connections; fairness.
#include "server.h"
#include "usockets/loop/embedding.h"
#include "usockets/tcp/context.h"
#include "usockets/tcp/read.h"

#include <vector>

TEST(echo_and_close) {
    server_t server;
    server.http.data = [](us_socket_t *s, char *data, int length) {
        CHECK_EQ(us_socket_write(0, s, data, length, 0), length);
    };
    server.http.open = [&](us_socket_t *s) {
        CHECK_EQ(server.loop->phase, US_PHASE_OPEN);
        char ip[16];
        int length = 16;
        us_socket_remote_address(0, s, ip, &length);
        CHECK_EQ(length, 4);
        CHECK(memcmp(ip, "\x7f\0\0\1", 4) == 0);
        int nodelay = 0;
        socklen_t size = sizeof(nodelay);
        CHECK_EQ(
            getsockopt((int) (intptr_t) us_socket_get_native_handle(0, s), IPPROTO_TCP, TCP_NODELAY, &nodelay, &size),
            0);
        CHECK(nodelay);
    };
    const int fd = server.connect_client();
    CHECK_EQ(server.loop->num_polls, 2);
    sockaddr_in own;
    socklen_t size = sizeof(own);
    getsockname(fd, (sockaddr *) &own, &size);
    CHECK_EQ(us_socket_remote_port(0, server.http.last), ntohs(own.sin_port));
    CHECK_EQ(us_socket_local_port(0, server.http.last), server.port);

    say(fd, "hello");
    std::string heard;
    server.pump([&] { return (heard += hear(fd)) == "hello"; });
    close(fd);
    server.pump_until(server.http.closed, 1);
    CHECK_EQ(server.loop->num_polls, 1);
    CHECK_EQ(server.http.context->num_sockets, 0);
}

TEST(close_outside_calls_at_once_and_only_once) {
    server_t server;
    int code = -1;
    void *reason = nullptr;
    server.http.close = [&](us_socket_t *s, int c, void *r) {
        code = c;
        reason = r;
        us_socket_close(0, s, 5, nullptr);
    };
    const int fd = server.connect_client();
    us_socket_t *s = server.http.last;
    static char text[] = "why";
    CHECK(us_socket_close(0, s, 3, text) == s);
    CHECK_EQ(server.http.closed, 1);
    CHECK_EQ(code, 3);
    CHECK(reason == text);
    us_socket_close(0, s, 0, nullptr);
    us_socket_timeout(0, s, 10); // harmless on a closed socket
    us_socket_shutdown(0, s);
    us_socket_shutdown_read(0, s);
    us_socket_pause(s, US_PAUSE_USER);
    us_socket_resume(s, US_PAUSE_USER);
    CHECK_EQ(us_socket_write(0, s, "x", 1, 0), 0);
    CHECK_EQ(us_socket_write2(0, s, "x", 1, "y", 1), 0);
    us_loop_iterate(server.loop, 0);
    CHECK_EQ(server.http.closed, 1);
    close(fd);
}

TEST(close_inside_a_callback_is_deferred) {
    server_t server;
    bool in_data = false;
    server.http.close = [&](us_socket_t *, int, void *) { CHECK(!in_data); };
    server.http.data = [&](us_socket_t *s, char *, int) {
        in_data = true;
        us_socket_close(0, s, 0, nullptr);
        us_socket_close(0, s, 0, nullptr);
        CHECK(us_socket_is_closed(0, s));
        CHECK_EQ(server.http.closed, 0);
        in_data = false;
    };
    const int fd = server.connect_client();
    say(fd, "x");
    server.pump_until(server.http.closed, 1);
    int ended = 0;
    server.pump([&] { return hear(fd, &ended).empty() && ended == 1; });
    close(fd);
}

// Both have data in one batch; whoever comes first closes the other, whose event is then stale.
TEST(close_of_another_socket_in_the_same_batch) {
    server_t server;
    const int a = server.connect_client();
    us_socket_t *sa = server.http.last;
    const int b = server.connect_client();
    us_socket_t *sb = server.http.last;
    int reads = 0;
    server.http.data = [&](us_socket_t *s, char *, int) {
        reads++;
        us_socket_close(0, s == sa ? sb : sa, 0, nullptr);
    };
    say(a, "x");
    say(b, "x");
    us_loop_iterate(server.loop, 100);
    CHECK_EQ(reads, 1);
    CHECK_EQ(server.http.closed, 1);
    close(a);
    close(b);
}

TEST(on_close_closes_all_others_without_recursion) {
    server_t server;
    std::vector<int> fds;
    for (int i = 0; i < 50; i++) {
        fds.push_back(server.connect_client());
    }
    int nesting = 0;
    server.http.close = [&](us_socket_t *, int, void *) {
        CHECK_EQ(nesting++, 0);
        us_socket_context_each(server.http.context, [](us_socket_t *s, void *) { us_socket_close(0, s, 0, nullptr); },
                               nullptr);
        nesting--;
    };
    us_socket_close(0, server.http.last, 0, nullptr);
    CHECK_EQ(server.http.closed, 50);
    for (int fd : fds) close(fd);
}

TEST(context_close_inside_a_callback) {
    server_t server;
    std::vector<int> fds;
    for (int i = 0; i < 20; i++) {
        fds.push_back(server.connect_client());
    }
    server.http.data = [&](us_socket_t *, char *, int) {
        us_socket_context_close(0, server.http.context);
        CHECK_EQ(server.http.closed, 0);
        CHECK_EQ(server.http.context->num_sockets, 0);
    };
    say(fds[3], "x");
    say(fds[7], "x");
    server.pump_until(server.http.closed, 20);
    CHECK_EQ(server.loop->num_polls, 0);
    us_loop_run(server.loop); // nothing left: returns
    for (int fd : fds) close(fd);
}

TEST(context_close_inside_its_own_on_close) {
    server_t server;
    std::vector<int> fds;
    for (int i = 0; i < 5; i++) {
        fds.push_back(server.connect_client());
    }
    server.http.close = [&](us_socket_t *s, int code, void *) {
        us_socket_close(0, s, 77, nullptr); // ignored: it is closed
        CHECK_EQ(code, 0);
        us_socket_context_close(0, server.http.context);
    };
    us_socket_close(0, server.http.last, 0, nullptr);
    CHECK_EQ(server.http.closed, 5);
    for (int fd : fds) {
        int ended = 0;
        CHECK(hear(fd, &ended).empty());
        CHECK_EQ(ended, 1);
        close(fd);
    }
}

TEST(context_free_is_silent) {
    int closed = 0;
    int fd;
    {
        server_t server;
        fd = server.connect_client();
        server.http.close = [&](us_socket_t *, int, void *) { closed++; };
    }
    CHECK_EQ(closed, 0);
    close(fd);
}

TEST(loop_freed_before_its_contexts) {
    us_loop_t *loop = server_t::make_loop();
    context_t parent(us_create_socket_context(0, loop, sizeof(void *), {}));
    context_t child(us_create_child_socket_context(0, parent.context, sizeof(void *)));
    us_listen_socket_t *listener = us_socket_context_listen(0, parent.context, "127.0.0.1", 0, 1, 0);
    const int fd = dial(us_socket_local_port(0, (us_socket_t *) listener));
    while (!parent.opened) us_loop_iterate(loop, 10);
    us_loop_free(loop);
    us_socket_context_free(0, parent.context);
    us_socket_context_free(0, child.context);
    CHECK_EQ(parent.closed, 0);
    close(fd);
}

TEST(each_survives_closing_and_adopting) {
    server_t server;
    context_t other(us_create_child_socket_context(0, server.http.context, sizeof(void *)));
    std::vector<int> fds;
    for (int i = 0; i < 6; i++) {
        fds.push_back(server.connect_client());
    }
    struct visit_t {
        us_socket_context_t *self, *other;
        int visits;
    } visit{server.http.context, other.context, 0};
    us_socket_context_each(server.http.context, [](us_socket_t *s, void *user) {
        visit_t *v = (visit_t *) user;
        v->visits++;
        if (s->next_) us_socket_close(0, s->next_, 0, nullptr);
        us_socket_context_adopt_socket(0, v->visits % 2 ? v->other : v->self, s, 8);
    }, &visit);
    CHECK_EQ(visit.visits, 3);
    CHECK_EQ(server.http.closed, 3);
    CHECK_EQ(other.context->num_sockets, 2);
    CHECK_EQ(server.http.context->num_sockets, 1);
    us_loop_iterate(server.loop, 0);
    us_socket_context_close(0, other.context);
    us_socket_context_free(0, other.context);
    for (int fd : fds) close(fd);
}

TEST(two_thousand_connections_leave_no_descriptor) {
    server_t server;
    server.http.data = [](us_socket_t *s, char *data, int length) { us_socket_write(0, s, data, length, 0); };
    us_loop_iterate(server.loop, 0);
    const int before = count_fds();
    std::vector<int> fds;
    for (int i = 0; i < 2000; i++) {
        fds.push_back(dial(server.port));
        if (i % 100 == 99) {
            server.pump_until(server.http.opened, i + 1);
        }
    }
    CHECK_EQ(server.http.context->num_sockets, 2000);
    for (int fd : fds) say(fd, "ping");
    for (int fd : fds) {
        std::string heard;
        server.pump([&] { return (heard += hear(fd)) == "ping"; });
    }
    for (size_t i = 0; i < fds.size(); i++) {
        i % 3 ? (void) close(fds[i]) : reset(fds[i]);
    }
    server.pump_until(server.http.closed, 2000);
    CHECK_EQ(count_fds(), before);
    CHECK_EQ(server.loop->num_polls, 1);
}

TEST(a_flooding_socket_does_not_starve_the_others) {
    server_t server;
    const int flooder = server.connect_client();
    us_socket_t *loud = server.http.last;
    const int quiet = server.connect_client();
    size_t loud_bytes = 0, quiet_bytes = 0;
    server.http.data = [&](us_socket_t *s, char *, int length) {
        (s == loud ? loud_bytes : quiet_bytes) += (size_t) length;
    };
    const std::string block(1 << 20, 'f');
    for (int round = 0; round < 50; round++) {
        while (send(flooder, block.data(), block.size(), MSG_NOSIGNAL | MSG_DONTWAIT) > 0) {
        }
        say(quiet, "q");
        loud_bytes = quiet_bytes = 0;
        us_loop_iterate(server.loop, 100);
        CHECK(loud_bytes <= 4 * LIBUS_RECV_BUFFER_LENGTH);
        CHECK_EQ(quiet_bytes, 1);
    }
    close(flooder);
    close(quiet);
}

TEST(deliver_copies_and_follows) {
    server_t server;
    context_t other(us_create_child_socket_context(0, server.http.context, sizeof(void *)));
    const int fd = server.connect_client();
    const std::string big(LIBUS_RECV_BUFFER_LENGTH + 1000, 'd');
    us_socket_t *s = server.http.last;
    server.http.data = [&](us_socket_t *from, char *, int length) {
        CHECK_EQ(length, LIBUS_RECV_BUFFER_LENGTH);
        CHECK_EQ(server.loop->phase, US_PHASE_DATA);
        us_socket_context_adopt_socket(0, other.context, from, 100);
    };
    us_socket_t *moved = us_socket_deliver(s, big.data(), big.size());
    CHECK(moved == s->moved_to);
    CHECK_EQ(other.received.size(), 1000);

    // stops at a close, and on_close comes after
    other.data = [&](us_socket_t *from, char *, int) {
        us_socket_close(0, from, 0, nullptr);
        CHECK_EQ(other.closed, 0);
    };
    us_socket_deliver(moved, big.data(), big.size());
    CHECK_EQ(other.closed, 1);
    us_loop_iterate(server.loop, 0);
    us_socket_context_free(0, other.context);
    close(fd);
}

TEST(bracket_from_outside_defers_on_close) {
    server_t server;
    const int fd = server.connect_client();
    us_loop_enter(server.loop);
    us_loop_enter(server.loop);
    us_socket_close(0, server.http.last, 0, nullptr);
    us_loop_leave(server.loop);
    CHECK_EQ(server.http.closed, 0);
    us_loop_leave(server.loop);
    CHECK_EQ(server.http.closed, 1);
    CHECK_EQ(server.loop->depth, 0);
    CHECK(us_loop_next_context(server.loop, nullptr) == server.http.context);
    CHECK(!us_loop_next_context(server.loop, server.http.context));
    close(fd);
}

// Each on_data keeps its bytes where they lie; the next read of the same visit must go to the new buffer.
TEST(receive_buffer_taken_in_mid_visit) {
    server_t server;
    const int fd = server.connect_client();
    struct kept_t {
        void *block;
        const char *data;
        size_t length;
    };
    std::vector<kept_t> kept;
    server.http.data = [&](us_socket_t *, char *data, int length) {
        CHECK(data == us_loop_recv_buffer(server.loop));
        kept.push_back({us_loop_take_recv_buffer(server.loop), data, (size_t) length});
        CHECK(data != us_loop_recv_buffer(server.loop));
    };
    std::string text(1 << 20, 0);
    for (size_t i = 0; i < text.size(); i++) text[i] = (char) (i % 251);
    size_t sent = 0, arrived = 0;
    server.pump([&] {
        const ssize_t n = send(fd, text.data() + sent, text.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        sent += n > 0 ? (size_t) n : 0;
        arrived = 0;
        for (kept_t &k : kept) arrived += k.length;
        return arrived == text.size();
    });
    size_t at = 0;
    for (kept_t &k : kept) {
        CHECK(!memcmp(k.data, text.data() + at, k.length));
        at += k.length;
        free(k.block);
    }
    close(fd);
}

TEST(pause_and_resume) {
    server_t server;
    const int fd = server.connect_client();
    us_socket_t *s = server.http.last;
    us_socket_pause(s, US_PAUSE_USER);
    us_socket_pause(s, US_PAUSE_BACKLOG);
    say(fd, "held");
    for (int i = 0; i < 3; i++) us_loop_iterate(server.loop, 0);
    {
        count_calls_t count;
        for (int i = 0; i < 20; i++) us_loop_iterate(server.loop, 0);
        CHECK_EQ(count[US_SYS_RECV], 0);
        CHECK_EQ(count[US_SYS_EPOLL_CTL], 0);
    }
    us_socket_resume(s, US_PAUSE_USER);
    us_loop_iterate(server.loop, 0);
    CHECK(server.http.received.empty());
    us_socket_resume(s, US_PAUSE_BACKLOG);
    server.pump([&] { return server.http.received == "held"; });
    say(fd, "!");
    server.pump([&] { return server.http.received == "held!"; });

    // the end of the peer waits behind unread data, too
    us_socket_pause(s, US_PAUSE_HELD);
    say(fd, "last");
    close(fd);
    for (int i = 0; i < 5; i++) us_loop_iterate(server.loop, 0);
    CHECK_EQ(server.http.closed, 0);
    us_socket_resume(s, US_PAUSE_HELD);
    server.pump_until(server.http.closed, 1);
    CHECK(server.http.received == "held!last");
}

TEST(pause_inside_data_stops_reading) {
    server_t server;
    const int fd = server.connect_client();
    int reads = 0;
    server.http.data = [&](us_socket_t *s, char *, int) {
        reads++;
        us_socket_pause(s, US_PAUSE_USER);
    };
    const std::string block(1 << 20, 'f');
    send(fd, block.data(), block.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    for (int i = 0; i < 5; i++) us_loop_iterate(server.loop, 0);
    CHECK_EQ(reads, 1);
    close(fd);
}
