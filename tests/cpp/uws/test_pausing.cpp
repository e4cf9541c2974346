// test_pausing.cpp - a message handler that has had enough (US_PAUSE_QUEUE): the parser stops behind that message, the rest
// of the read comes back first and in order, and a socket that is not read is not taken for an idle one.
#include "instance_server.h"
#include "usockets/loop/sys.h"

#include <arpa/inet.h>

namespace {

// A WebSocket over TCP loopback, so that the socket has an address.
struct tcp_client_t {
    int fd = -1;
    us_socket_t *s = nullptr;
    instance_server_t::peer_t *peer = nullptr;

    explicit tcp_client_t(instance_server_t &server) {
        const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t length = sizeof(address);
        CHECK_EQ(bind(listener, (sockaddr *) &address, length), 0);
        CHECK_EQ(getsockname(listener, (sockaddr *) &address, &length), 0);
        CHECK_EQ(listen(listener, 1), 0);
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK_EQ(connect(fd, (sockaddr *) &address, length), 0);
        char ip[4] = {127, 0, 0, 1};
        const int accepted = accept(listener, nullptr, nullptr);
        CHECK(accepted >= 0);
        close(listener);
        CHECK(us_adopt_accepted_socket(0, server.instance->http_context(), accepted,
                                       sizeof(uWS::HttpResponseData<false>), ip, 4));
        say(kHandshake);
        while (server.peers.empty()) us_loop_iterate(server.instance->loop(), -1);
        peer = server.peers.back().get();
        s = uwserve::raw(peer->ws);
    }
    ~tcp_client_t() { close(fd); }
    tcp_client_t(const tcp_client_t &) = delete;

    void say(std::string_view bytes) const {
        CHECK_EQ(::send(fd, bytes.data(), bytes.size(), 0), (ssize_t) bytes.size());
    }
};

int option(const us_socket_t *s, int level, int name) {
    int value = -1;
    socklen_t length = sizeof(value);
    CHECK_EQ(getsockopt(s->fd, level, name, &value, &length), 0);
    return value;
}

void time_out(us_socket_t *s) {
    us_loop_enter(s->context->loop);
    s->context->cb.on_timeout(s);
    us_loop_leave(s->context->loop);
}

}  // namespace

// Every message waits, with others, fragments and pings behind it in the same read, which is cut anywhere.
TEST(the_rest_of_a_read_comes_later_and_in_order) {
    const std::string stream = client_frame(0x81, "Wait 1") + client_frame(0x89, "p") + client_frame(0x81, "Wait 2") +
                               client_frame(0x01, "Wait") + client_frame(0x8a, "q") + client_frame(0x80, " 3") +
                               client_frame(0x82, std::string(60'000, 'W')) + client_frame(0x81, "last");
    std::string expected;
    instance_server_t::note(expected, 't', "Wait 1");
    instance_server_t::note(expected, 'i', "p");
    instance_server_t::note(expected, 't', "Wait 2");
    instance_server_t::note(expected, 'o', "q");
    instance_server_t::note(expected, 't', "Wait 3");
    instance_server_t::note(expected, 'b', std::string(60'000, 'W'));
    instance_server_t::note(expected, 't', "last");
    for (size_t cut = 1; cut < stream.size(); cut += cut < 80 ? 1 : 7919) {
        instance_server_t server;
        tcp_client_t client(server);
        client.say(std::string_view(stream).substr(0, cut));
        server.iterate();
        client.say(std::string_view(stream).substr(cut));
        for (int i = 0; i < 1000 && client.peer->transcript.size() < expected.size(); i++) server.iterate();
        CHECK(client.peer->transcript == expected);
    }
}

TEST(one_message_at_a_time_and_nothing_is_read_meanwhile) {
    instance_server_t server;
    server.reads_on = false;
    tcp_client_t client(server);
    client.say(client_frame(0x81, "W1") + client_frame(0x81, "W2") + client_frame(0x81, "W3"));
    while (server.messages == 0) us_loop_iterate(server.instance->loop(), -1);
    client.say(client_frame(0x81, "W4"));
    server.iterate(5);
    CHECK_EQ(server.messages, 1);
    CHECK_EQ(client.peer->unparsed.size(), 2 * client_frame(0x81, "W2").size());
    for (int expected = 2; expected <= 4; expected++) {
        server.reads_on = true;
        server.read_on(*client.peer);
        server.reads_on = false;
        if (expected == 4) {
            while (server.messages < 4) us_loop_iterate(server.instance->loop(), -1);
        }
        CHECK_EQ(server.messages, expected);
    }
}

TEST(what_waits_dies_with_its_socket) {
    instance_server_t server;
    server.reads_on = false;
    tcp_client_t client(server);
    client.say(client_frame(0x81, "W1") + client_frame(0x81, "never"));
    while (server.messages == 0) us_loop_iterate(server.instance->loop(), -1);
    server.end(*client.peer, 4000, "enough");
    server.iterate(3);
    CHECK_EQ(server.messages, 1);
}

// Its peer may have sent: only the kernel can tell whether it lives.
TEST(a_socket_that_is_not_read_is_not_idle) {
    instance_server_t server;
    server.reads_on = false;
    tcp_client_t client(server);
    client.say(client_frame(0x81, "W"));
    while (server.messages == 0) us_loop_iterate(server.instance->loop(), -1);
    CHECK_EQ(option(client.s, SOL_SOCKET, SO_KEEPALIVE), 0);
    for (int i = 0; i < 4; i++) {  // a Ping, its time is over, and again
        time_out(client.s);
        CHECK(!client.s->closed);
    }
    CHECK_EQ(option(client.s, SOL_SOCKET, SO_KEEPALIVE), 1);
    CHECK_EQ(option(client.s, IPPROTO_TCP, TCP_KEEPIDLE), 120);
    CHECK_EQ(option(client.s, IPPROTO_TCP, TCP_KEEPINTVL), 30);
    CHECK_EQ(option(client.s, IPPROTO_TCP, TCP_KEEPCNT), 4);
    us_socket_resume(client.s, US_PAUSE_QUEUE);
    time_out(client.s);  // a ping, which is not answered
    CHECK(!client.s->closed);
    time_out(client.s);
    CHECK_EQ(client.peer->closes, 1);
}

// What the kernel finds out, by keepalive probes or in another way, is an error event; a paused socket ends then, too.
TEST(a_dead_peer_is_noticed_while_paused) {
    instance_server_t server;
    server.reads_on = false;
    tcp_client_t client(server);
    client.say(client_frame(0x81, "W"));
    while (server.messages == 0) us_loop_iterate(server.instance->loop(), -1);
    const linger reset = {1, 0};
    CHECK_EQ(setsockopt(client.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
    close(client.fd);
    client.fd = -1;
    while (!client.peer->closes) us_loop_iterate(server.instance->loop(), -1);
    CHECK_EQ(client.peer->code, 1006);
}

TEST(keepalive_takes_any_number_of_seconds) {
    instance_server_t server;
    tcp_client_t client(server);
    us_socket_keepalive(client.s, 0);
    CHECK_EQ(option(client.s, IPPROTO_TCP, TCP_KEEPIDLE), 1);
    CHECK_EQ(option(client.s, IPPROTO_TCP, TCP_KEEPINTVL), 1);
    us_socket_keepalive(client.s, 1'000'000);
    CHECK_EQ(option(client.s, IPPROTO_TCP, TCP_KEEPIDLE), 32767);
    us_sys_hook = [](us_sys_call_t call, size_t *) { return call == US_SYS_SETSOCKOPT ? EPERM : 0; };
    us_socket_keepalive(client.s, 5);
    us_sys_hook = nullptr;
    CHECK_EQ(option(client.s, IPPROTO_TCP, TCP_KEEPIDLE), 32767);
    CHECK(!client.s->closed);
}
