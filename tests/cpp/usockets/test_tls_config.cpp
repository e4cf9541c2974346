// test_tls_config.cpp - configurations: what is refused, server names, client certificates, tickets, reload, the budget.
#include "tls_client.h"
#include "usockets/tls/config.h"

#include <memory>

static us_tls_error_t error_of(const us_tls_entry_t &entry) {
    us_tls_error_t error;
    us_tls_config_t *config = us_tls_config_new({entry}, &error);
    CHECK(!config);
    CHECK(error.text.find("secret") == std::string::npos);
    CHECK_EQ(ERR_peek_error(), 0);
    return error;
}

#define REFUSED(option_name, part, ...)                    \
    do {                                                   \
        us_tls_entry_t entry = entry_of(localhost());      \
        __VA_ARGS__;                                       \
        const us_tls_error_t error = error_of(entry);      \
        CHECK_EQ(strcmp(error.option, option_name), 0);    \
        CHECK(error.text.find(part) != std::string::npos); \
    } while (0)

TEST(what_is_wrong_is_said) {
    const identity_t other = make_identity("other"), locked = make_identity("locked", 0, "secret-word");
    const std::string broken = localhost().cert.substr(0, localhost().cert.size() / 2);
    const std::string broken_chain = localhost().cert + broken;
    REFUSED("cert", "no certificate", entry.cert = "no PEM");
    REFUSED("cert", "OpenSSL: ", entry.cert = broken);
    REFUSED("cert", "chain", entry.cert = broken_chain);
    REFUSED("key", "no private key", entry.key = localhost().cert);
    REFUSED("key", "does not belong", entry.key = other.key);
    REFUSED("passphrase", "missing", entry.key = locked.key; entry.cert = locked.cert);
    REFUSED("passphrase", "does not open", entry.key = locked.key; entry.cert = locked.cert;
            entry.passphrase = "secret?");
    REFUSED("ca", "no certificate", entry.ca = "nothing");
    REFUSED("ca", "not valid", entry.ca = broken_chain);
    REFUSED("ciphers", "no cipher", entry.ciphers = "NO-SUCH-CIPHER");
    REFUSED("ciphers", "unknown TLS 1.3", entry.ciphers = "TLS_NO_SUCH_SUITE");
    REFUSED("alpn_protocols", "255", entry.alpn = {std::string(256, 'x')});
    REFUSED("server_name", "twice", entry.server_names = {"a.example", "A.example."});
    us_tls_entry_t entry = entry_of(locked);
    entry.passphrase = "secret-word";
    us_tls_config_unref(make_config({entry}));
}

TEST(server_names_choose_the_certificate) {
    const identity_t exact = make_identity("exact"), wild = make_identity("wild");
    us_tls_entry_t second = entry_of(exact), third = entry_of(wild);
    second.server_names = {"www.example.com", "only.example.org"};
    third.server_names = {"*.Example.COM"};
    tls_server_t server({entry_of(localhost()), second, third});
    echo(server.http);
    const std::pair<const char *, const char *> cases[] = {
        {nullptr, "localhost"},           {"unknown.org", "localhost"},  {"www.example.com", "exact"},
        {"WWW.example.COM", "exact"},     {"www.example.com.", "exact"}, {"api.example.com", "wild"},
        {"a.b.example.com", "localhost"}, {"example.com", "localhost"},  {"only.example.org", "exact"},
    };
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        for (const auto &[asked, expected] : cases) {
            tls_client_t client(version);
            client.connect(server, asked);
            CHECK(client.peer_name() == expected);
            client.write("x");
            client.expect(server, "x");
            us_tls_info_t info;
            CHECK(us_socket_tls_info(server.http.last, &info));
            CHECK(info.server_name == (asked ? asked : ""));
        }
    }
}

static void give_certificate(tls_client_t &client, const identity_t &identity) {
    BIO *bio = BIO_new_mem_buf(identity.cert.data(), (int) identity.cert.size());
    X509 *certificate = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr);
    BIO_free(bio);
    bio = BIO_new_mem_buf(identity.key.data(), (int) identity.key.size());
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, nullptr, nullptr, nullptr);
    BIO_free(bio);
    CHECK(SSL_CTX_use_certificate(client.context, certificate) == 1 &&
          SSL_CTX_use_PrivateKey(client.context, key) == 1);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

// Connects and sends; true when the server took what was sent.
static bool admitted(tls_server_t &server, tls_client_t &client, const char *name = nullptr) {
    client.begin(dial(server.port), name);
    server.http.received.clear();
    bool sent = false;
    server.pump([&] {
        client.turn();
        if (client.established() && !sent && !client.error) {
            client.write("x");
            sent = true;
        }
        return client.tcp_ended || client.error || server.http.received == "x";
    });
    return server.http.received == "x";
}

TEST(client_certificates) {
    const identity_t known = make_identity("known"), stranger = make_identity("stranger");
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        for (const bool rejecting : {true, false}) {
            us_tls_entry_t strict = entry_of(localhost());
            strict.ca = known.cert;
            strict.request_cert = true;
            strict.reject_unauthorized = rejecting;
            strict.server_names = {"strict.example"};
            tls_server_t server({entry_of(localhost()), strict});
            us_tls_info_t info;
            {
                tls_client_t client(version);
                give_certificate(client, known);
                CHECK(admitted(server, client, "strict.example"));
                CHECK(us_socket_tls_info(server.http.last, &info));
                CHECK(!info.peer_certificate.empty() && !info.verify_error);
            }
            {
                tls_client_t client(version);
                give_certificate(client, stranger);
                CHECK_EQ(admitted(server, client, "strict.example"), !rejecting);
                if (rejecting) {
                    CHECK(client.alert == SSL_AD_UNKNOWN_CA || client.alert == SSL_AD_BAD_CERTIFICATE);
                } else {
                    CHECK(us_socket_tls_info(server.http.last, &info));
                    CHECK(!info.peer_certificate.empty() && info.verify_error);
                }
            }
            tls_client_t client(version);
            CHECK_EQ(admitted(server, client, "strict.example"), !rejecting);
            tls_client_t anyone(version);
            CHECK(admitted(server, anyone, "lax.example"));
        }
    }
}

TEST(alpn) {
    tls_server_t server;
    const struct {
        std::string offered;
        const char *chosen;
    } cases[] = {
        {std::string("\x08http/1.1"), "http/1.1"},
        {std::string("\x02h2\x08http/1.1"), "http/1.1"},
        {"", ""},
    };
    for (const auto &[offered, chosen] : cases) {
        tls_client_t client;
        if (!offered.empty()) {
            SSL_CTX_set_alpn_protos(client.context, (const unsigned char *) offered.data(), (unsigned) offered.size());
        }
        client.connect(server);
        us_tls_info_t info;
        CHECK(us_socket_tls_info(server.http.last, &info));
        CHECK(info.alpn == chosen);
    }
    tls_client_t client;
    SSL_CTX_set_alpn_protos(client.context, (const unsigned char *) "\x02h2", 3);
    client.begin(dial(server.port));
    server.pump([&] {
        client.turn();
        return client.tcp_ended;
    });
    CHECK_EQ(client.alert, SSL_AD_NO_APPLICATION_PROTOCOL);
}

TEST(ciphers_and_versions) {
    us_tls_entry_t only13 = entry_of(localhost());
    only13.ciphers = "TLS_CHACHA20_POLY1305_SHA256";
    tls_server_t modern({only13});
    tls_client_t old(TLS1_2_VERSION), fresh;
    CHECK(!admitted(modern, old));
    CHECK(admitted(modern, fresh));
    CHECK_EQ(strcmp(SSL_get_cipher_name(fresh.ssl), "TLS_CHACHA20_POLY1305_SHA256"), 0);
    us_tls_entry_t both = entry_of(localhost());
    both.ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384:TLS_AES_128_GCM_SHA256";
    tls_server_t mixed({both});
    tls_client_t second(TLS1_2_VERSION), third;
    CHECK(admitted(mixed, second));
    CHECK_EQ(strcmp(SSL_get_cipher_name(second.ssl), "ECDHE-ECDSA-AES256-GCM-SHA384"), 0);
    CHECK(admitted(mixed, third));
    CHECK_EQ(strcmp(SSL_get_cipher_name(third.ssl), "TLS_AES_128_GCM_SHA256"), 0);
    both.server_names = {"mixed.example"};
    tls_server_t two({only13, both});  // what a name allows counts for that name only
    tls_client_t named(TLS1_2_VERSION), unnamed(TLS1_2_VERSION), named13;
    CHECK(admitted(two, named, "mixed.example"));
    CHECK(!admitted(two, unnamed));
    CHECK(admitted(two, named13, "mixed.example"));
    CHECK_EQ(strcmp(SSL_get_cipher_name(named13.ssl), "TLS_AES_128_GCM_SHA256"), 0);
    tls_server_t server;
    tls_client_t ancient(TLS1_1_VERSION);
    SSL_CTX_set_cipher_list(ancient.context, "ALL:@SECLEVEL=0");
    CHECK(!admitted(server, ancient));
}

static SSL_SESSION *session_of(tls_server_t &server, tls_client_t &client) {
    client.write("x");
    server.pump([&] {
        client.turn();
        return SSL_SESSION_is_resumable(SSL_get_session(client.ssl));
    });
    SSL_SESSION *session = SSL_get1_session(client.ssl);
    client.close_notify();  // or OpenSSL would not use it again
    return session;
}

TEST(tickets_resume_and_stay_on_their_site) {
    const identity_t known = make_identity("known");
    us_tls_entry_t strict = entry_of(localhost());
    strict.ca = known.cert;
    strict.request_cert = true;
    strict.server_names = {"strict.example"};
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        tls_server_t server({entry_of(localhost()), strict});
        SSL_SESSION *lax = nullptr, *admitted_session = nullptr;
        us_tls_info_t info;
        {
            tls_client_t client(version);
            client.connect(server, "lax.example");
            lax = session_of(server, client);
            tls_client_t other(version);
            give_certificate(other, known);
            other.connect(server, "strict.example");
            admitted_session = session_of(server, other);
        }
        {
            tls_client_t client(version);
            client.connect(server, "lax.example", lax);
            CHECK(SSL_session_reused(client.ssl));
            tls_client_t other(version);
            other.connect(server, "strict.example", admitted_session);
            CHECK(SSL_session_reused(other.ssl));
            CHECK(us_socket_tls_info(server.http.last, &info) && info.resumed);
            CHECK(!info.peer_certificate.empty() && !info.verify_error);  // the ticket remembers who was admitted
        }
        {
            tls_client_t client(version);
            client.begin(dial(server.port), "strict.example", lax);
            server.pump([&] {
                client.turn();
                return client.tcp_ended || client.error;
            });
            CHECK(!SSL_session_reused(client.ssl));
        }
        {  // another configuration knows nothing of the tickets of the first
            use_tls(server.http.context, {entry_of(localhost())});
            tls_client_t client(version);
            client.connect(server, "lax.example", lax);
            CHECK(!SSL_session_reused(client.ssl));
        }
        SSL_SESSION_free(lax);
        SSL_SESSION_free(admitted_session);
    }
}

static std::string name_of(const us_tls_ticket_key_t &key) { return {(const char *) key.name, sizeof(key.name)}; }

// A ticket begins with the name of the key that seals it (RFC 5077 4), and goes on with the whole session: one that only
// names a session of the server's memory has 32 bytes.
static std::string name_in_ticket(SSL_SESSION *session) {
    const unsigned char *ticket = nullptr;
    size_t length = 0;
    SSL_SESSION_get0_ticket(session, &ticket, &length);
    CHECK(length > 100);
    return {(const char *) ticket, sizeof(us_tls_ticket_key_t::name)};
}

// A key seals for 4 hours, and opens for 4 more. The figures of docs/security.md.
TEST(a_ticket_key_seals_for_four_hours) {
    constexpr uint64_t SECOND = 1'000'000'000, HOURS_4 = 4 * 3600 * SECOND;
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        us_tls_config_t *config = make_config({entry_of(localhost())});
        tls_server_t server;
        CHECK(us_socket_context_set_tls(server.http.context, config));
        us_tls_ticket_keys_t &keys = config->ticket_keys;
        const auto connect = [&](SSL_SESSION *offered, bool is_resumed) {
            tls_client_t client(version);
            client.connect(server, nullptr, offered);
            CHECK_EQ(SSL_session_reused(client.ssl), is_resumed);
            return session_of(server, client);
        };
        SSL_SESSION *first = connect(nullptr, false);
        const std::string old = name_in_ticket(first);
        CHECK(old == name_of(keys.current));
        keys.current.made_ns = us_sys_now_ns() - HOURS_4 + 60 * SECOND;
        SSL_SESSION *second = connect(first, true);
        CHECK(name_in_ticket(second) == old);
        keys.current.made_ns = us_sys_now_ns() - HOURS_4;
        SSL_SESSION *third = connect(first, true);
        CHECK(name_in_ticket(third) == name_of(keys.current) && name_of(keys.current) != old);
        CHECK(name_of(keys.previous) == old);
        keys.previous.made_ns = us_sys_now_ns() - 2 * HOURS_4 + 60 * SECOND;
        SSL_SESSION *fourth = connect(first, true);
        keys.previous.made_ns = us_sys_now_ns() - 2 * HOURS_4;
        SSL_SESSION *fifth = connect(first, false);
        for (SSL_SESSION *session : {first, second, third, fourth, fifth}) SSL_SESSION_free(session);
        us_tls_config_unref(config);
    }
}

TEST(ticket_keys_change) {
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        us_tls_config_t *config = make_config({entry_of(localhost())});
        tls_server_t server;
        CHECK(us_socket_context_set_tls(server.http.context, config));
        us_tls_ticket_keys_t &keys = config->ticket_keys;
        const auto age = [&] {
            keys.current.made_ns -= keys.period_ns;
            if (keys.previous.made_ns) keys.previous.made_ns -= keys.period_ns;
        };
        // The session of a connection, for which that of an earlier one was offered.
        const auto connect = [&](SSL_SESSION *offered, bool is_resumed) {
            tls_client_t client(version);
            client.connect(server, nullptr, offered);
            CHECK_EQ(SSL_session_reused(client.ssl), is_resumed);
            return session_of(server, client);
        };
        SSL_SESSION *first = connect(nullptr, false);
        const us_tls_ticket_key_t sealed_first = keys.current;
        SSL_SESSION *second = connect(first, true);
        CHECK(memcmp(sealed_first.name, keys.current.name, sizeof(sealed_first.name)) == 0);
        age();  // the key only opens, and what it opens is sealed anew
        SSL_SESSION *third = connect(first, true);
        CHECK(memcmp(sealed_first.name, keys.previous.name, sizeof(sealed_first.name)) == 0);
        CHECK(memcmp(sealed_first.cipher, keys.current.cipher, sizeof(sealed_first.cipher)) != 0);
        age();  // it does not even open
        SSL_SESSION *fourth = connect(second, false);
        SSL_SESSION *fifth = connect(third, true);
        age(), age();  // after a long silence, no key is good
        SSL_SESSION *last = connect(fifth, false);
        for (SSL_SESSION *session : {first, second, third, fourth, fifth, last}) SSL_SESSION_free(session);
        us_tls_config_unref(config);
    }
}

TEST(a_new_configuration_is_for_new_connections) {
    const identity_t renewed = make_identity("renewed");
    tls_server_t server;
    echo(server.http);
    tls_client_t old, waiting, fresh;
    old.connect(server);
    waiting.begin(dial(server.port));  // accepted, its hello comes after the change
    server.pump([&] { return server.http.opened == 2; });
    use_tls(server.http.context, {entry_of(renewed)});
    waiting.handshake(server);
    CHECK(waiting.peer_name() == "localhost");
    fresh.connect(server);
    CHECK(fresh.peer_name() == "renewed");
    for (tls_client_t *client : {&old, &waiting, &fresh}) {
        client->write("x");
        client->expect(server, "x");
    }
    server_t plain;
    const int fd = plain.connect_client();
    us_tls_config_t *config = make_config({entry_of(renewed)});
    CHECK(!us_socket_context_set_tls(plain.http.context, config));  // it has a plain socket
    us_tls_config_unref(config);
    close(fd);
}

// Sixty handshakes wait at once; an iteration does some of them, and an echo never waits for all.
TEST(handshakes_have_a_budget) {
    const identity_t slow = make_identity("slow", 3072);
    tls_server_t server({entry_of(slow)});
    echo(server.http);
    tls_client_t talker;
    talker.connect(server);
    std::vector<std::unique_ptr<tls_client_t>> crowd;
    for (int i = 0; i < 60; i++) {
        crowd.push_back(std::make_unique<tls_client_t>());
        crowd.back()->begin(dial(server.port));
    }
    server.pump([&] { return server.http.opened == 61; });
    for (auto &client : crowd) client->send_some();
    talker.write("ping");
    talker.send_some();
    us_loop_iterate(server.loop, 0);
    us_loop_iterate(server.loop, 0);
    talker.turn();
    CHECK(talker.received == "ping");
    auto answered = [&] {
        int count = 0;
        for (auto &client : crowd) {
            client->listen_in();
            client->think();
            count += client->established();
        }
        return count;
    };
    CHECK(answered() < 30);
    server.pump([&] { return answered() == 60; });
}
