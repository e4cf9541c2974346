// test_instance_faults.cpp - every system call under a whole server fails in turn (faults.h): handshakes, echo, fan-out,
// fragments, large messages with backpressure, violations, closes from both sides, requests with bodies; and all of it
// again over TLS.
//
// instance_server.h checks that the layer above still sees each socket open and close exactly once; what reaches the clients
// is whole frames.
#include "instance_server.h"
#include "faults.h"
#include "tls_client.h"

#include <algorithm>
#include <optional>
#include <utility>

static us_tls_config_t *tls;  // NULL: the scenario is a plain one

struct client_t {
    int fd = -1;
    std::string heard, unsaid;  // unsaid: until the TLS handshake is done
    bool ended = false;
    std::optional<tls_client_t> secure;

    explicit client_t(instance_server_t &server, int buffer = 0) {
        int pair[2];
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
        if (buffer) CHECK_EQ(setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer)), 0);
        fd = pair[0];
        if (tls) secure.emplace().begin(fd);
        if (!server.adopt(pair[1])) close(pair[1]);  // it was not taken
    }
    ~client_t() { leave(); }
    client_t(const client_t &) = delete;

    void say(std::string_view text) {
        if (secure) {
            unsaid += text;
            say_unsaid();
        } else if (fd >= 0) {
            (void) !::send(fd, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        }
    }
    void hear() {
        if (fd < 0) return;
        if (!secure) {
            int how = 0;
            heard += ::hear(fd, &how);
            ended |= how != 0;
            return;
        }
        secure->turn();
        say_unsaid();
        heard += std::exchange(secure->received, {});
        ended |= secure->tcp_ended;
    }
    bool is_done() const { return ended || secure->established() || secure->error; }
    void leave() {
        secure.reset();  // closes it
        if (fd >= 0 && !tls) close(fd);
        fd = -1;
    }

  private:
    void say_unsaid() {
        size_t n = 0;
        if (!secure->established() || secure->error || unsaid.empty()) return;
        if (SSL_write_ex(secure->ssl, unsaid.data(), unsaid.size(), &n) == 1) unsaid.clear();
        ERR_clear_error();
        secure->collect();
        secure->send_some();
    }
};

static void scenario() {
    instance_server_t server;
    if (!server.instance) return;
    if (tls) CHECK(us_socket_context_set_tls(server.instance->http_context(), tls));
    {
        client_t echo(server), slow(server, 100'000), fan(server), wrong(server), leaver(server), web(server);
        client_t *const all[] = {&echo, &slow, &fan, &wrong, &leaver, &web};
        const auto turn = [&](int times) {
            for (int i = 0; i < times; i++) {
                server.iterate();
                for (client_t *client : all) client->hear();
            }
        };
        // One iteration spends only so long on handshakes.
        for (int i = 0; tls && i < 40; i++) {
            turn(1);
            if (std::ranges::all_of(all, [](client_t *client) { return client->is_done(); })) break;
        }
        if (tls) turn(3);
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
        turn(12);
        server.close_all();
        for (client_t *client : all) {
            client->hear();
            if (client != &web) check_server_stream(client->heard, faults_t::is_clean_run() && client->ended);
        }
        if (faults_t::is_clean_run()) {  // the clean run: it did what it is there for
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

TEST(every_system_call_of_a_server_fails_once) {
    const int most = every_call_fails({EMFILE, ENOMEM, EINTR, ECONNRESET, EAGAIN, EPIPE}, scenario);
    printf("  %d calls in the longest run\n", most);
    CHECK(most > 80);
}

TEST(three_calls_in_a_row_fail) { every_call_fails({ENOMEM, ECONNRESET, EAGAIN}, scenario, 3); }

TEST(every_kind_of_call_fails_always) {
    every_kind_of_call_fails({EMFILE, ENOMEM, ECONNRESET, EAGAIN, EPIPE}, scenario);
}

// From the N-th call on, everything of one kind fails: a network that goes away for good.
TEST(every_kind_of_call_fails_from_the_nth_on) {
    for (int kind = 0; kind < US_SYS_COUNT; kind++) {
        every_call_fails({ECONNRESET, EAGAIN}, scenario, faults_t::kFromThenOn, kind);
    }
}

// Transfers are cut to a few bytes, each its own length: the streams must not care.
TEST(transfers_of_a_few_bytes) {
    static int turn;
    for (turn = 0; turn < 7; turn++) {
        faults_t::failed = 0;
        us_sys_hook = [](us_sys_call_t call, size_t *length) {
            if ((call == US_SYS_SEND || call == US_SYS_RECV || call == US_SYS_SENDMSG) && *length) {
                const size_t most = 1 + (size_t) ((turn * 7919 + ++faults_t::made * 31) % (turn ? 97 : 3));
                *length = std::min(*length, most);
            }
            return 0;
        };
        faults_t::at = 0;  // no promise of how far a run gets
        scenario();
        us_sys_hook = nullptr;
    }
}

// --- over TLS ---

static void with_tls(void (*test)()) {
    tls = make_config({entry_of(localhost())});
    test();
    us_tls_config_unref(std::exchange(tls, nullptr));
}

TEST(every_system_call_of_a_tls_server_fails_once) {
    with_tls([] {
        const int most = every_call_fails({ENOMEM, ECONNRESET, EAGAIN}, scenario);
        printf("  %d calls in the longest run\n", most);
        CHECK(most > 100);
    });
}

TEST(everything_fails_from_the_nth_call_of_a_tls_server_on) {
    with_tls([] { every_call_fails({ECONNRESET}, scenario, faults_t::kFromThenOn); });
}

TEST(every_kind_of_call_of_a_tls_server_fails_always) {
    with_tls([] { every_kind_of_call_fails({ENOMEM, ECONNRESET, EAGAIN, EPIPE}, scenario); });
}

TEST(transfers_of_a_few_bytes_over_tls) { with_tls(transfers_of_a_few_bytes); }
