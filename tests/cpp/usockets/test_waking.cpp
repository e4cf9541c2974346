// test_waking.cpp - wake-up from another thread, watches, the loop inside a foreign poll(), release hooks, fork.
#include "server.h"
#include "usockets/loop/watch.h"

#include <atomic>
#include <thread>

TEST(wake_up_from_another_thread_100k_times) {
    server_t server(false);
    constexpr int TOTAL = 100'000;
    std::atomic<int> produced{0};
    int seen = 0;
    server_t::on_wakeup = [&] { seen = produced.load(std::memory_order_relaxed); };
    std::thread producer([&] {
        for (int i = 1; i <= TOTAL; i++) {
            produced.store(i, std::memory_order_relaxed); // ordered by the wake-up itself
            us_wakeup_loop(server.loop);
        }
    });
    while (seen != TOTAL) {
        const uint64_t before = us_sys_now_ns();
        us_loop_iterate(server.loop, 5000);
        CHECK(us_sys_now_ns() - before < 4'000'000'000); // a lost wake-up would sit here
    }
    producer.join();
    CHECK(server_t::wakeups > 0 && server_t::wakeups <= TOTAL);
}

TEST(wake_up_from_several_threads) {
    server_t server(false);
    std::atomic<int> done{0};
    int seen = 0;
    server_t::on_wakeup = [&] { seen = done.load(); };
    std::thread threads[3];
    for (std::thread &t : threads) {
        t = std::thread([&] {
            for (int i = 0; i < 5000; i++) {
                done++;
                us_wakeup_loop(server.loop);
            }
        });
    }
    while (seen != 15000) us_loop_iterate(server.loop, 5000);
    for (std::thread &t : threads) t.join();
}

TEST(wake_ups_coalesce) {
    server_t server(false);
    count_calls_t count;
    for (int i = 0; i < 1000; i++) us_wakeup_loop(server.loop);
    CHECK_EQ(count[US_SYS_EVENTFD_WRITE], 1);
    us_loop_iterate(server.loop, 0);
    us_loop_iterate(server.loop, 0);
    CHECK_EQ(server_t::wakeups, 1);
    server_t::on_wakeup = [&] {
        if (server_t::wakeups < 5) us_wakeup_loop(server.loop); // asks for another round
    };
    us_wakeup_loop(server.loop);
    for (int i = 0; i < 10; i++) us_loop_iterate(server.loop, 0);
    CHECK_EQ(server_t::wakeups, 5);
}

TEST(close_inside_wakeup_is_deferred) {
    server_t server;
    const int fd = server.connect_client();
    server_t::on_wakeup = [&] {
        us_socket_close(0, server.http.last, 0, nullptr);
        CHECK_EQ(server.http.closed, 0);
    };
    us_wakeup_loop(server.loop);
    us_loop_iterate(server.loop, 0);
    CHECK_EQ(server.http.closed, 1);
    close(fd);
}

struct watching_t {
    int fd, reads = 0;
    us_watch_t *self = nullptr, *other = nullptr;
};

TEST(watch_and_unwatch) {
    server_t server(false);
    int a[2], b[2];
    CHECK_EQ(pipe2(a, O_NONBLOCK | O_CLOEXEC), 0);
    CHECK_EQ(pipe2(b, O_NONBLOCK | O_CLOEXEC), 0);
    watching_t wa{a[0]}, wb{b[0]};
    auto on_readable = [](void *user) {
        watching_t *w = (watching_t *) user;
        char c;
        CHECK_EQ(read(w->fd, &c, 1), 1);
        w->reads++;
    };
    wa.self = us_watch(server.loop, a[0], on_readable, &wa);
    CHECK(wa.self);
    CHECK_EQ(server.loop->num_polls, 0);
    CHECK(!us_watch(server.loop, a[0], on_readable, &wa) && errno == EEXIST);
    CHECK_EQ(write(a[1], "x", 1), 1);
    server.pump([&] { return wa.reads == 1; });
    us_unwatch(wa.self);

    // from its own callback, and from another's in the same batch
    auto unwatch_all = [](void *user) {
        watching_t *w = (watching_t *) user;
        w->reads++;
        us_unwatch(w->self);
        us_unwatch(w->other);
    };
    wa.self = wb.other = us_watch(server.loop, a[0], unwatch_all, &wa);
    wb.self = wa.other = us_watch(server.loop, b[0], unwatch_all, &wb);
    CHECK_EQ(write(a[1], "x", 1), 1);
    CHECK_EQ(write(b[1], "x", 1), 1);
    us_loop_iterate(server.loop, 100);
    us_loop_iterate(server.loop, 0);
    CHECK_EQ(wa.reads + wb.reads, 2);

    us_watch(server.loop, a[0], on_readable, &wa); // left to us_loop_free
    for (int fd : {a[0], a[1], b[0], b[1]}) close(fd);
}

TEST(epoll_descriptor_is_readable_when_there_is_work) {
    server_t server;
    const int fd = server.connect_client();
    us_loop_iterate(server.loop, 0);
    pollfd p{us_loop_fd(server.loop), POLLIN, 0};
    auto ready = [&](int ms) { return poll(&p, 1, ms) == 1; };
    CHECK(!ready(0));
    say(fd, "x");
    CHECK(ready(1000));
    us_loop_iterate(server.loop, 0);
    CHECK(server.http.received == "x");
    CHECK(!ready(0));
    us_wakeup_loop(server.loop);
    CHECK(ready(1000));
    us_loop_iterate(server.loop, 0);
    CHECK(!ready(0));
    us_socket_timeout(0, server.http.last, 1); // armed from outside
    const uint64_t start = us_sys_now_ns();
    CHECK(ready(3000));
    CHECK(us_sys_now_ns() - start >= 1'000'000'000);
    int fired = 0;
    server.http.timeout = [&](us_socket_t *) { fired++; };
    us_loop_iterate(server.loop, 0);
    CHECK_EQ(fired, 1);
    CHECK(!ready(0));
    close(fd);
}

TEST(release_hook_comes_before_wait_and_post) {
    server_t server;
    static int releases;
    releases = 0;
    us_loop_on_release(server.loop, [](void *user) {
        releases++;
        CHECK_EQ(((us_loop_t *) user)->depth, 0);
    }, server.loop);
    server_t::on_post = [] { CHECK_EQ(releases, 2); };
    us_loop_iterate(server.loop, 0);
    CHECK_EQ(releases, 2);
    us_loop_on_release(server.loop, nullptr, nullptr);
}

TEST(nested_iteration_is_refused) {
    server_t server;
    const int fd = server.connect_client();
    const int posts = server_t::posts;
    server.http.data = [&](us_socket_t *, char *, int) {
        us_loop_iterate(server.loop, 0);
        CHECK_EQ(server_t::posts, posts);
    };
    say(fd, "x");
    us_loop_iterate(server.loop, 100);
    close(fd);
}

TEST(run_returns_when_nothing_is_left) {
    server_t server;
    const int fd = server.connect_client();
    server.http.data = [&](us_socket_t *s, char *, int) {
        us_listen_socket_close(0, server.listener);
        us_socket_close(0, s, 0, nullptr);
    };
    say(fd, "bye");
    us_loop_run(server.loop);
    CHECK_EQ(server.http.closed, 1);
    close(fd);
}

TEST(child_abandons_and_parent_goes_on) {
    server_t server;
    const int before = count_fds();
    const int fd = server.connect_client();
    server.http.data = [](us_socket_t *s, char *data, int length) { us_socket_write(0, s, data, length, 0); };
    us_socket_timeout(0, server.http.last, 100);
    const pid_t child = fork();
    if (child == 0) {
        us_loop_abandon(server.loop);
        close(fd);
        CHECK_EQ(count_fds(), before - 4); // epoll, eventfd, timerfd, listener gone
        us_wakeup_loop(server.loop);
        us_socket_context_free(0, server.http.context);
        us_loop_free(server.loop);
        _exit(server.http.closed);
    }
    int status = -1;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    say(fd, "still here");
    std::string heard;
    server.pump([&] { return (heard += hear(fd)) == "still here"; });
    const int second = server.connect_client();
    close(second);
    close(fd);
    server.pump_until(server.http.closed, 2);
}

// A child that keeps copies of the descriptors must not keep our epoll registrations alive.
TEST(closed_sockets_stay_silent_while_a_child_holds_them) {
    server_t server;
    const int fd = server.connect_client();
    int hold[2];
    CHECK_EQ(pipe(hold), 0);
    const pid_t child = fork();
    if (child == 0) {
        close(hold[1]);
        char c;
        _exit((int) read(hold[0], &c, 1)); // until the parent closes its end
    }
    close(hold[0]);
    us_socket_close(0, server.http.last, 0, nullptr);
    us_loop_iterate(server.loop, 0); // block freed
    say(fd, "to nobody");
    pollfd p{us_loop_fd(server.loop), POLLIN, 0};
    CHECK_EQ(poll(&p, 1, 20), 0);
    close(hold[1]);
    waitpid(child, nullptr, 0);
    close(fd);
}
