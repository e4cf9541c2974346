// test_tls_faults.cpp - every system call of a TLS scenario is made to fail in turn (faults.h).
#include "faults.h"
#include "tls_client.h"
#include "usockets/tcp/read.h"

// Three clients: one echoes and is adopted, one is closed with last words, one sends garbage. With backpressure and a pause.
static void scenario(us_tls_config_t *config) {
    us_loop_t *loop = server_t::make_loop();
    if (loop->error) {
        us_loop_free(loop);
        return;
    }
    {
        context_t http(us_create_socket_context(0, loop, sizeof(void *), {}));
        context_t ws(us_create_child_socket_context(0, http.context, sizeof(void *)));
        CHECK(us_socket_context_set_tls(http.context, config));
        http.data = [&](us_socket_t *s, char *data, int length) {
            if (data[0] == 'u') {
                s = us_socket_context_adopt_socket(0, ws.context, s, 100);
                us_socket_write(0, s, "upgraded", 8, 1);
            } else {
                us_socket_write(0, s, data, length, 0);
                us_socket_shutdown(0, s);
                us_socket_close(0, s, 0, nullptr);
            }
        };
        const std::string payload(200'000, 'p');
        ws.data = [&](us_socket_t *s, char *data, int) {
            us_socket_write2(0, s, data, 4, payload.data(), (int) payload.size());
            us_socket_write(0, s, data, 4, 1);
            us_socket_pause(s, US_PAUSE_USER);
        };
        ws.writable = [&](us_socket_t *s) {
            us_socket_resume(s, US_PAUSE_USER);
            us_socket_shutdown(0, s);
        };
        us_listen_socket_t *listener =
            us_socket_context_listen(0, http.context, "127.0.0.1", 0, LIBUS_LISTEN_EXCLUSIVE_PORT, 32);
        const int port = listener ? us_socket_local_port(0, (us_socket_t *) listener) : -1;
        if (port > 0) {
            tls_client_t upgrading, closing, garbage;
            bool asked = false, again = false;
            upgrading.begin(dial(port, 4096));
            closing.begin(dial(port));
            garbage.begin(dial(port));
            garbage.outgoing = "GET / HTTP/1.1\r\n\r\n";
            for (int i = 0; i < 14; i++) {
                us_loop_iterate(loop, i < 3 ? 2 : 0);
                for (tls_client_t *client : {&upgrading, &closing, &garbage}) client->turn();
                if (!asked && upgrading.established() && closing.established()) {
                    asked = true;
                    upgrading.write("upgrade");
                    closing.write("close");
                } else if (asked && !again && !upgrading.received.empty()) {
                    again = true;
                    upgrading.write("data and some more");
                    upgrading.write("behind it");
                }
            }
            reset(closing.fd);
            closing.fd = -1;
        }
        for (int i = 0; i < 5; i++) us_loop_iterate(loop, 0);
        us_socket_context_close(0, http.context);
        us_socket_context_close(0, ws.context);
        us_loop_iterate(loop, 0);
        CHECK_EQ(http.opened, http.closed + ws.closed);
        CHECK_EQ(loop->num_polls, 0);
        CHECK_EQ(loop->num_blocked, 0);
        us_socket_context_free(0, http.context);
        us_socket_context_free(0, ws.context);
    }
    us_loop_free(loop);
}

TEST(every_system_call_fails_once) {
    us_tls_config_t *config = make_config({entry_of(localhost())});
    const int most = every_call_fails({ENOMEM, EINTR, ECONNRESET, EAGAIN, ENOBUFS}, [config] { scenario(config); });
    printf("  %d calls in the longest run\n", most);
    CHECK(most > 60);
    us_tls_config_unref(config);
}

TEST(every_kind_of_call_fails_always) {
    us_tls_config_t *config = make_config({entry_of(localhost())});
    every_kind_of_call_fails({ENOMEM, ECONNRESET, EAGAIN}, [config] { scenario(config); });
    us_tls_config_unref(config);
}

// Every transfer is cut to a few bytes, and every third one is refused for now.
TEST(nothing_is_lost_or_repeated_in_small_pieces) {
    static int turn;
    for (const size_t piece : {1, 7, 1000}) {
        static size_t most;
        most = piece;
        tls_server_t server;
        std::string backlog, text;
        for (int i = 0; i < 9000; i++) text += std::to_string(i);
        auto drain = [&](us_socket_t *s) {
            while (!backlog.empty() && !s->blocked) {
                const std::string copy = backlog.substr(0, 10'000);
                backlog.erase(0, (size_t) us_socket_write(0, s, copy.data(), (int) copy.size(), 0));
            }
        };
        server.http.data = [&](us_socket_t *s, char *data, int length) {
            backlog.append(data, (size_t) length);
            drain(s);
        };
        server.http.writable = drain;
        tls_client_t client;
        client.begin(dial(server.port));
        us_sys_hook = [](us_sys_call_t call, size_t *length) {
            if (call != US_SYS_SEND && call != US_SYS_RECV) return 0;
            *length = *length < most ? *length : most;
            return ++turn % 3 ? 0 : EAGAIN;
        };
        client.handshake(server);
        client.write(text);
        client.expect(server, text);
        us_sys_hook = nullptr;
    }
}
