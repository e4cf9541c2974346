// test_engine_faults.cpp - every system call under a whole server fails in turn: handshakes, echo, fan-out, fragments,
// large messages with backpressure, violations, closes from both sides, requests with bodies.
//
// As in test_faults.cpp, for N = 1, 2, ... the N-th call fails until a run needs fewer; engine_server.h checks that the
// layer above still sees each socket open and close exactly once, and what reaches the clients is whole frames.
#include "engine_server.h"
#include "sys.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>

static int fail_at, failed, calls_made, fail_with, fail_kind = -1, fail_count = 1;

static int fail_nth(us_sys_call_t call, size_t *) {
    if (fail_kind >= 0 && call != fail_kind) return 0;
    calls_made++;
    if (calls_made < fail_at || calls_made >= fail_at + fail_count) return 0;
    failed++;
    return fail_with;
}

static int count_descriptors() {
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    CHECK(folder);
    while (readdir(folder)) count++;
    closedir(folder);
    return count;
}

struct client_t {
    int fd = -1;
    std::string heard;
    bool ended = false, failed = false;

    explicit client_t(engine_server_t &server, int buffer = 0) {
        int pair[2];
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
        if (buffer) CHECK_EQ(setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer)), 0);
        fd = pair[0];
        if (server.adopt(pair[1])) return;
        failed = true;
        close(pair[1]);  // it was not taken
    }
    ~client_t() { leave(); }
    client_t(const client_t &) = delete;

    void say(std::string_view text) {
        if (fd >= 0) (void) !::send(fd, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    void hear() {
        char buffer[65536];
        while (fd >= 0 && !ended) {
            const ssize_t n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
            if (n > 0) {
                heard.append(buffer, (size_t) n);
                continue;
            }
            if (n == 0 || errno != EAGAIN) ended = true;
            failed |= n < 0 && errno != EAGAIN;
            return;
        }
    }
    void leave() {
        if (fd >= 0) close(fd);
        fd = -1;
    }
};

static void scenario() {
    engine_server_t server;
    if (!server.engine) return;
    {
        client_t echo(server), slow(server, 100'000), fan(server), wrong(server), leaver(server), web(server);
        client_t *const all[] = {&echo, &slow, &fan, &wrong, &leaver, &web};
        echo.say(std::string(kHandshake) + client_frame(0x81, "behind"));
        slow.say(kHandshake.substr(0, 40));
        server.iterate();
        slow.say(kHandshake.substr(40));
        for (client_t *client : {&fan, &wrong, &leaver}) client->say(kHandshake);
        web.say("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345");
        server.iterate(2);

        echo.say(client_frame(0x82, std::string(5000, 'e')) + client_frame(0x89, "ping"));
        slow.say(client_frame(0x81, "L"));
        fan.say(client_frame(0x81, "Publish") + client_frame(0x01, "x") + client_frame(0x80, "y"));
        wrong.say(client_frame(0x81, "fine") + client_frame(0x83, "?") + client_frame(0x81, "never"));
        web.say("67890GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n\r\n");
        for (int i = 0; i < 6; i++) {
            server.iterate();
            if (i > 1) {
                for (client_t *client : all) client->hear();
            }
        }
        leaver.say(client_frame(0x82, "Large")), server.iterate(), leaver.leave();
        slow.say(client_frame(0x81, "L"));
        server.iterate(2);
        echo.say(client_frame(0x88, std::string("\x03\xe8", 2) + "bye"));
        fan.say(client_frame(0x81, "Close"));
        for (int i = 0; i < 12; i++) {
            server.iterate();
            for (client_t *client : all) client->hear();
        }
        server.close_all();
        for (client_t *client : all) {
            client->hear();
            if (client != &web) check_server_stream(client->heard, fail_at && !failed && client->ended);
        }
        if (!failed && fail_at) {  // the clean run: it did what it is there for
            CHECK(echo.heard.find("behind") != std::string::npos);
            CHECK(echo.heard.find("bye") != std::string::npos);
            CHECK(fan.heard.find("xy") != std::string::npos);
            CHECK(wrong.heard.find("fine") != std::string::npos);
            CHECK(wrong.heard.find("never") == std::string::npos);
            CHECK(slow.heard.size() > 600'000);
            CHECK(web.heard.find("1234567890") != std::string::npos);
        }
    }
}

static int every_call_fails(int error, int limit = 5000) {
    const int before = count_descriptors();
    fail_with = error;
    for (fail_at = 1;; fail_at++) {
        calls_made = failed = 0;
        us_sys_hook = fail_nth;
        scenario();
        us_sys_hook = nullptr;
        CHECK_EQ(count_descriptors(), before);
        if (!failed) return fail_at;
        CHECK(fail_at < limit);
    }
}

TEST(every_system_call_of_a_server_fails_once) {
    fail_kind = -1;
    fail_count = 1;
    int most = 0;
    for (int error : {EMFILE, ENOMEM, EINTR, ECONNRESET, EAGAIN, EPIPE}) most = std::max(most, every_call_fails(error));
    printf("  %d calls in the longest run\n", most);
    CHECK(most > 80);
}

TEST(three_calls_in_a_row_fail) {
    fail_kind = -1;
    fail_count = 3;
    for (int error : {ENOMEM, ECONNRESET, EAGAIN}) every_call_fails(error);
}

TEST(every_kind_of_call_fails_always) {
    const int before = count_descriptors();
    fail_at = 1;
    fail_count = 1 << 30;
    for (int error : {EMFILE, ENOMEM, ECONNRESET, EAGAIN, EPIPE}) {
        fail_with = error;
        for (fail_kind = 0; fail_kind < US_SYS_COUNT; fail_kind++) {
            calls_made = failed = 0;
            us_sys_hook = fail_nth;
            scenario();
            us_sys_hook = nullptr;
            CHECK_EQ(count_descriptors(), before);
        }
    }
    fail_kind = -1;
}

// From the N-th call on, everything of one kind fails: a network that goes away for good.
TEST(every_kind_of_call_fails_from_the_nth_on) {
    fail_count = 1 << 30;
    for (fail_kind = 0; fail_kind < US_SYS_COUNT; fail_kind++) {
        for (int error : {ECONNRESET, EAGAIN}) every_call_fails(error);
    }
    fail_kind = -1;
}

// Transfers are cut to a few bytes, each its own length: the streams must not care.
TEST(transfers_of_a_few_bytes) {
    static int turn;
    for (turn = 0; turn < 7; turn++) {
        failed = 0;
        us_sys_hook = [](us_sys_call_t call, size_t *length) {
            if ((call == US_SYS_SEND || call == US_SYS_RECV || call == US_SYS_SENDMSG) && *length) {
                const size_t most = 1 + (size_t) ((turn * 7919 + ++calls_made * 31) % (turn ? 97 : 3));
                *length = std::min(*length, most);
            }
            return 0;
        };
        fail_at = 0;  // no promise of how far a run gets
        scenario();
        us_sys_hook = nullptr;
    }
}
