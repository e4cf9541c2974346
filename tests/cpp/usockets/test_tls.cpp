// test_tls.cpp - TLS on the socket layer: streams, ends, splits, leftovers, refusals.
#include "tls_client.h"
#include "usockets/tls/state.h"
#include "usockets/tcp/read.h"
#include "usockets/tcp/write.h"

static const int VERSIONS[] = {TLS1_2_VERSION, TLS1_3_VERSION};

TEST(echo_in_both_versions) {
    for (const int version : VERSIONS) {
        tls_server_t server;
        echo(server.http);
        tls_client_t client(version);
        client.connect(server);
        client.write("hello");
        client.expect(server, "hello");
        us_tls_info_t info;
        CHECK(us_socket_tls_info(server.http.last, &info));
        CHECK_EQ(strcmp(info.version, version == TLS1_2_VERSION ? "TLSv1.2" : "TLSv1.3"), 0);
        CHECK(us_socket_get_native_handle(0, server.http.last) != nullptr);
        CHECK_EQ(us_socket_unsent_bytes(server.http.last), 0);
    }
}

// Every split point of the hello, then of the client's second flight with a request behind it.
TEST(flights_split_at_every_byte) {
    for (const int version : VERSIONS) {
        tls_server_t server;
        echo(server.http);
        for (int flight = 1; flight <= 2; flight++) {
            size_t length = 51;
            for (size_t at = 1; at < length; at++) {
                tls_client_t client(version);
                client.begin(dial(server.port));
                if (flight == 2) {
                    client.send_some();
                    server.pump([&] {
                        client.listen_in();
                        client.think();
                        return !client.outgoing.empty();
                    });
                    if (client.established()) client.write("x");
                }
                length = client.outgoing.size();
                client.send_some(at);
                us_loop_iterate(server.loop, 0);
                us_loop_iterate(server.loop, 0);
                client.handshake(server);
                if (flight == 1 || version == TLS1_2_VERSION) client.write("x");
                client.expect(server, "x");
            }
            CHECK(length > 50);
        }
    }
}

TEST(one_byte_a_packet) {
    tls_server_t server;
    echo(server.http);
    tls_client_t client;
    client.begin(dial(server.port));
    us_sys_hook = [](us_sys_call_t call, size_t *length) {
        if (call == US_SYS_SEND || call == US_SYS_RECV) *length = 1;
        return 0;
    };
    client.handshake(server);
    std::string text;
    for (int i = 0; i < 6000; i++) text += std::to_string(i);  // more than one record
    client.write(text);
    client.expect(server, text);
    us_sys_hook = nullptr;
}

TEST(many_small_records_are_one_read) {
    tls_server_t server;
    int reads = 0;
    server.http.data = [&](us_socket_t *, char *data, int length) {
        server.http.received.append(data, (size_t) length);
        reads++;
    };
    tls_client_t client;
    client.connect(server);
    std::string text;
    for (int i = 0; i < 200; i++) {
        client.write(std::to_string(i));
        text += std::to_string(i);
    }
    client.send_some();
    CHECK(client.outgoing.empty());
    server.pump([&] { return server.http.received.size() == text.size(); });
    CHECK(server.http.received == text);
    CHECK_EQ(reads, 1);
}

// A record of 16 KiB against a read limit of 4 KiB: the rest is inside OpenSSL, and no event will tell of it.
TEST(leftovers_come_without_an_event) {
    tls_server_t server;
    tls_client_t client;
    client.connect(server);
    std::string text(100'000, 'a');
    for (size_t i = 0; i < text.size(); i++) text[i] = (char) ('a' + i % 23);
    for (const bool pausing : {false, true}) {
        server.http.received.clear();
        int pieces = 0;
        server.http.data = [&](us_socket_t *s, char *data, int length) {
            server.http.received.append(data, (size_t) length);
            server.loop->internal_->read_limit = 4096;
            pieces++;
            if (pausing) us_socket_pause(s, US_PAUSE_USER);
        };
        server.loop->internal_->read_limit = 4096;
        client.write(text);
        server.pump([&] {
            client.send_some();
            if (pausing && server.http.last->pause_reasons) {
                const int before = pieces;
                us_loop_iterate(server.loop, 0);
                us_loop_iterate(server.loop, 0);
                CHECK_EQ(pieces, before);
                us_socket_resume(server.http.last, US_PAUSE_USER);
            }
            return server.http.received.size() == text.size();
        });
        CHECK(server.http.received == text);
        CHECK(pieces >= 12);  // the limit may double from one read to the next
        server.http.data = nullptr;
        us_socket_resume(server.http.last, US_PAUSE_USER);
    }
}

// The peer goes while the reader is paused on leftovers: they and the end still come, in order.
TEST(paused_leftovers_survive_the_peer) {
    for (const bool polite : {false, true}) {
        tls_server_t server;
        int ends = 0;
        server.http.end = [&](us_socket_t *s) {
            ends++;
            us_socket_close(0, s, 0, nullptr);
        };
        {
            tls_client_t client;
            client.connect(server);
            client.listen_in();
            server.loop->internal_->read_limit = 4096;
            server.http.data = [&](us_socket_t *s, char *data, int length) {
                server.http.received.append(data, (size_t) length);
                us_socket_pause(s, US_PAUSE_USER);
            };
            client.write(std::string(10'000, 'x'));
            if (polite) client.close_notify();
            client.send_some();
        }
        server.pump([&] { return !server.http.received.empty(); });
        for (int i = 0; i < 3; i++) us_loop_iterate(server.loop, 0);
        CHECK_EQ(server.http.received.size(), 4096);
        CHECK_EQ(ends, 0);
        server.pump([&] {
            if (!server.http.closed) us_socket_resume(server.http.last, US_PAUSE_USER);
            return server.http.closed == 1;
        });
        CHECK_EQ(server.http.received.size(), 10'000);
        CHECK_EQ(ends, 1);
    }
}

TEST(close_notify_and_fin_are_the_end) {
    for (const bool notified : {true, false}) {
        tls_server_t server;
        bool ended = false;
        server.http.end = [&](us_socket_t *s) {
            ended = true;
            CHECK_EQ(us_socket_write(0, s, "still", 5, 0), 5);  // half-closed, not closed
            us_socket_shutdown(0, s);
        };
        tls_client_t client;
        client.connect(server);
        client.write("last");
        if (notified) client.close_notify();
        client.send_some();
        if (!notified) CHECK_EQ(shutdown(client.fd, SHUT_WR), 0);
        server.pump([&] { return ended; });
        CHECK(server.http.received == "last");
        client.expect(server, "still");
        server.pump([&] {
            client.turn();
            return client.tcp_ended;
        });
        CHECK(client.peer_closed);  // our close_notify came before our FIN
        CHECK_EQ(client.error, 0);
    }
}

TEST(big_transfers_through_small_buffers) {
    tls_server_t server;
    std::string text(3'000'000, 0), backlog;
    for (size_t i = 0; i < text.size(); i++) text[i] = (char) (i * 31 >> 3);
    int drains = 0;
    size_t most_unsent = 0;
    auto drain = [&](us_socket_t *s) {
        while (!backlog.empty() && !s->blocked) {
            std::string copy = backlog.substr(0, 70'001);  // a retry never comes from the same address
            backlog.erase(0, (size_t) us_socket_write(0, s, copy.data(), (int) copy.size(), 0));
            const size_t unsent = us_socket_unsent_bytes(s);
            most_unsent = unsent > most_unsent ? unsent : most_unsent;
        }
    };
    server.http.data = [&](us_socket_t *s, char *data, int length) {
        backlog.append(data, (size_t) length);
        drain(s);
    };
    server.http.writable = [&](us_socket_t *s) {
        drains++;
        drain(s);
    };
    tls_client_t client;
    client.begin(dial(server.port, 4096));
    const int small = 4096;
    server.pump([&] { return server.http.opened == 1; });
    CHECK_EQ(setsockopt(server.http.last->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    client.handshake(server);
    client.write(text);
    server.pump([&] {
        client.turn();
        return client.received.size() >= text.size();
    }, 30);
    CHECK(client.received == text);
    CHECK(drains > 3);
    CHECK(most_unsent > 0 && most_unsent < 64 * 1024);
    CHECK_EQ(us_socket_unsent_bytes(server.http.last), 0);
    CHECK_EQ(server.loop->num_blocked, 0);
}

// header and payload of write2, unsent tail, and FIN behind all of it.
TEST(write2_unsent_tail_and_shutdown_keep_the_order) {
    tls_server_t server;
    tls_client_t client;
    client.begin(dial(server.port, 4096));
    const int small = 4096;
    server.pump([&] { return server.http.opened == 1; });
    CHECK_EQ(setsockopt(server.http.last->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    client.handshake(server);
    us_socket_t *s = server.http.last;
    std::string payload(40'000, 'p'), expected;
    int written;
    do {
        written = us_socket_write2(0, s, "HEADER", 6, payload.data(), (int) payload.size());
        if (written) expected += "HEADER" + payload.substr(0, (size_t) written - 6);
    } while (written == (int) payload.size() + 6);
    CHECK(s->blocked);
    CHECK(written > 6);
    CHECK_EQ(us_socket_write(0, s, "more", 4, 1), 4);  // to the unsent tail
    expected += "more";
    CHECK_EQ(us_socket_write(0, s, "no", 2, 0), 0);
    us_socket_shutdown(0, s);
    server.pump([&] {
        client.turn();
        return client.tcp_ended;
    });
    CHECK(client.received == expected);
    CHECK(client.peer_closed);
}

TEST(writes_before_the_handshake_wait_and_do_not_spin) {
    tls_server_t server;
    std::string greeting = "welcome";
    auto greet = [&](us_socket_t *s) {
        greeting.erase(0, (size_t) us_socket_write(0, s, greeting.data(), (int) greeting.size(), 0));
    };
    server.http.open = greet;
    server.http.writable = greet;
    tls_client_t client;
    client.begin(dial(server.port));
    server.pump([&] { return server.http.opened == 1; });
    const int before = server_t::posts;
    us_loop_iterate(server.loop, 20);
    us_loop_iterate(server.loop, 20);
    CHECK_EQ(server_t::posts, before + 2);
    client.handshake(server);
    client.expect(server, "welcome");
    CHECK_EQ(server.loop->num_blocked, 0);
}

TEST(garbage_gets_an_alert_and_http_an_answer) {
    tls_server_t server;
    const int fd = server.connect_client();
    say(fd, std::string(600, '\xff'));
    std::string heard;
    int ended = 0;
    server.pump([&] {
        heard += hear(fd, &ended);
        return ended != 0;
    });
    CHECK_EQ(ended, 1);  // a FIN, not a reset
    CHECK(heard.size() == 7 && heard[0] == 21 && heard[5] == 2);  // one fatal alert
    close(fd);
    const int plain = server.connect_client();
    say(plain, "GET / HTTP/1.1\r\nHost: a\r\n\r\n" + std::string(100'000, 'x'));
    heard.clear();
    ended = 0;
    server.pump([&] {
        heard += hear(plain, &ended);
        return ended != 0;
    });
    CHECK_EQ(ended, 1);
    CHECK(heard.starts_with("HTTP/1.1 400 "));
    CHECK(heard.find("https") != std::string::npos);
    CHECK_EQ(heard.size() - heard.find("\r\n\r\n") - 4, 60);  // Content-Length
    close(plain);
    server.pump_until(server.http.closed, 2);
}

// One bad record in the middle: what came before it is delivered, then the connection fails.
TEST(tampering_is_noticed) {
    tls_server_t server;
    tls_client_t client;
    client.connect(server);
    client.write("good");
    const size_t good = client.outgoing.size();
    client.write("evil");
    client.outgoing[good + 8] ^= 1;
    client.write("late");
    server.pump([&] {
        client.turn();
        return client.tcp_ended;
    });
    CHECK(server.http.received == "good");
    CHECK_EQ(client.alert, SSL_AD_BAD_RECORD_MAC);
    CHECK_EQ(server.http.closed, 1);
}

TEST(no_renegotiation) {
    tls_server_t server;
    echo(server.http);
    tls_client_t client(TLS1_2_VERSION);
    client.connect(server);
    CHECK_EQ(SSL_renegotiate(client.ssl), 1);
    SSL_do_handshake(client.ssl);
    client.collect();
    for (int i = 0; i < 5; i++) {
        client.turn();
        us_loop_iterate(server.loop, 1);
    }
    CHECK(!client.established());  // asked, and not answered
}

TEST(a_close_in_time_is_read_by_the_peer) {
    tls_server_t server;
    server.http.data = [](us_socket_t *s, char *, int) {
        CHECK_EQ(us_socket_write(0, s, "because", 7, 0), 7);
        us_socket_shutdown(0, s);
        us_socket_close(0, s, 0, nullptr);
    };
    tls_client_t client;
    client.connect(server);
    client.write("go");
    client.send_some();
    client.write(std::string(300'000, 'x'));  // unread input, which would turn a close into a reset
    server.pump([&] {
        client.turn();
        return client.tcp_ended;
    });
    CHECK(client.received == "because");
    CHECK(client.peer_closed);
}

TEST(adopt_takes_the_session_along) {
    tls_server_t server;
    context_t ws(us_create_child_socket_context(0, server.http.context, sizeof(void *)));
    us_socket_t *moved = nullptr;
    server.http.data = [&](us_socket_t *s, char *, int) {
        void *handle = us_socket_get_native_handle(0, s);
        moved = us_socket_context_adopt_socket(0, ws.context, s, 100);
        CHECK(us_socket_get_native_handle(0, moved) == handle);
        CHECK_EQ(us_socket_write(0, moved, "moved", 5, 0), 5);
    };
    tls_client_t client;
    client.connect(server);
    server.loop->internal_->read_limit = 4096;
    client.write(std::string(20'000, 'x'));  // leftovers of the old block are the new one's
    client.expect(server, "moved");
    server.pump([&] {
        client.turn();
        return ws.received.size() == 20'000 - 4096;
    });
    client.close_notify();
    server.pump([&] {
        client.turn();
        return ws.closed == 1;
    });
    us_socket_context_free(0, ws.context);
}

// A peer that asks for answers and never reads them: key updates, in this case.
TEST(provoked_output_is_bounded) {
    tls_server_t server;
    tls_client_t client(TLS1_3_VERSION);
    client.connect(server);
    us_sys_hook = [](us_sys_call_t call, size_t *) { return call == US_SYS_SEND ? EAGAIN : 0; };
    for (int i = 0; i < 3000; i++) {
        CHECK_EQ(SSL_key_update(client.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        client.write("x");
    }
    server.pump([&] {
        client.send_some();
        return server.http.closed == 1 || server.http.received.size() == 3000;
    });
    if (!server.http.closed) CHECK(us_socket_unsent_bytes(server.http.last) <= US_TLS_OUT_MAX);
    us_sys_hook = nullptr;
}

// However its bytes come; who is done stays.
TEST(a_handshake_has_its_time) {
    tls_server_t server;
    us_socket_context_tls_deadline(server.http.context, 1);
    tls_client_t done, slow;
    done.connect(server);
    const int silent = server.connect_client();
    slow.begin(dial(server.port));
    int ended = 0;
    server.pump([&] {
        slow.send_some(1);
        slow.listen_in();
        hear(silent, &ended);
        return ended && slow.tcp_ended;
    });
    CHECK_EQ(server.http.closed, 2);
    done.write("still here");
    server.pump([&] {
        done.turn();
        return server.http.received == "still here";
    });
    close(silent);
}
