// instance_server.h - a whole Instance without Python: a server that upgrades, echoes and publishes, for fault injection and
// fuzzing, with checks of what the layer above is promised:
//
//   on_open once and on_close exactly once per socket, nothing in between once it has closed; text is valid UTF-8;
//   control payloads fit; each request that is taken is settled exactly once.
//
// The first byte of a message chooses what its handler does (Action), so that clients reach every way out. Everything
// runs in one thread. Peers live until the server ends, so that a late callback is seen and not a use after free of ours.
#pragma once

#include "check.h"
#include "utf8_reference.h"

#include "uws/upstream/instance.h"
#include "uws/websocket/handshake.h"
#include "uws/deflate/per_message.h"
#include "uws/deflate/negotiation.h"
#include "usockets/tcp/read.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

struct instance_server_t : uwserve::WsHandler, uwserve::HttpHandler {
    struct peer_t {
        uwserve::Socket *ws = nullptr;  // NULL once it has closed
        int opens = 0, closes = 0, code = 0;
        std::string transcript;  // what was delivered, see note()
        std::string unparsed;  // what came with the message that paused it
    };

    uwserve::Limits limits;  // outlives the instance
    std::unique_ptr<uwserve::Instance> instance;
    std::vector<std::unique_ptr<peer_t>> peers;
    std::vector<uwserve::HttpConnection *> waiting;  // requests that are answered later
    int messages = 0, requests = 0, settled = 0;
    bool answer_later = false;
    uwserve::DeflateOptions deflate;
    bool reads_on = true;  // what a message paused goes on in the next iteration
    bool acts = true;  // messages choose actions; otherwise all of them are echoed

    // `instance` is NULL when the loop's descriptors can't be made.
    instance_server_t() : instance(uwserve::Instance::create(*this, *this, limits)) {
        if (!instance) return;
        instance->connections().max_body = 1 << 16;
        instance->lifecycle().idle_timeout.set_schedule(uwserve::PingSchedule());
        limits.websocket.max_payload_length = 1 << 16;
        limits.websocket.backpressure_limit = 1 << 20;
        deflate.compress = *uwserve::compress_side("dedicated");
        deflate.decompress = *uwserve::decompress_side("dedicated");
    }

    ~instance_server_t() override {
        if (!instance) return;
        close_all();
        for (const auto &peer : peers) CHECK_EQ(peer->closes, peer->opens);
        CHECK_EQ(settled, requests);
        CHECK_EQ(instance->connections().pending.load(), 0);
        CHECK_EQ(instance->loop()->num_polls, 0);
    }

    void iterate(int times = 1) {
        for (int i = 0; i < times; i++) {
            us_loop_iterate(instance->loop(), 0);
            for (size_t p = 0; p < peers.size(); p++) read_on(*peers[p]);
        }
    }

    // What a server does that stops at once.
    void close_all() {
        for (size_t i = 0; i < peers.size(); i++) {
            if (peers[i]->ws) end(*peers[i], 1001, "Server closed");
        }
        instance->connections().close_all();
        us_socket_context_close(0, instance->http_context());
        us_socket_context_close(0, instance->ws_context());
        iterate(3);
    }

    // A connection that was accepted elsewhere.
    us_socket_t *adopt(int fd) {
        return us_adopt_accepted_socket(0, instance->http_context(), fd, sizeof(uWS::HttpResponseData<false>), nullptr,
                                        0);
    }

    // --- what the binding does for user code ---

    static us_socket_t *raw(const peer_t &peer) { return uwserve::raw(peer.ws); }

    void send(peer_t &peer, std::string_view data, uWS::OpCode opcode, bool compress = true) {
        if (!peer.ws) return;
        uwserve::send_message(peer.ws, data, opcode, compress);
    }

    void end(peer_t &peer, int code, std::string_view reason) {
        uwserve::Socket *ws = detach(peer, code);
        us_socket_t *s = uwserve::raw(ws);
        ws->end(code, reason);
        us_socket_resume(s, US_PAUSE_USER | US_PAUSE_BACKLOG | US_PAUSE_QUEUE);
    }

    void terminate(peer_t &peer) {
        us_socket_t *s = uwserve::raw(detach(peer, 1006));
        us_socket_close(0, s, 0, nullptr);
    }

    // Reading goes on, first with what was kept.
    void read_on(peer_t &peer) {
        if (!peer.ws || !reads_on || !(raw(peer)->pause_reasons & US_PAUSE_QUEUE)) return;
        us_socket_resume(raw(peer), US_PAUSE_QUEUE);
        std::string rest = std::exchange(peer.unparsed, {});
        us_loop_enter(instance->loop());
        if (!rest.empty()) us_socket_deliver(raw(peer), rest.data(), rest.size());
        us_loop_leave(instance->loop());
    }

    // One line per event: t(ext), b(inary), i (ping), o (pong).
    static void note(std::string &transcript, char kind, std::string_view data) {
        transcript += kind + std::to_string(data.size()) + ':';
        transcript.append(data) += '\n';
    }

    void publish(std::string_view data, uWS::OpCode opcode) {
        uwserve::Topics &topics = instance->topics();
        if (uWS::Topic *topic = topics.tree()->lookupTopic("all")) {
            topics.publish(nullptr, *topic, std::string(data), opcode, true);
        }
    }

    void answer_waiting() {
        while (!waiting.empty()) {
            uwserve::HttpConnection *conn = waiting.back();
            waiting.pop_back();
            answer(*conn);
        }
    }

  private:
    // Closed for the layer above: the instance's on_close is not passed on any more.
    uwserve::Socket *detach(peer_t &peer, int code) {
        CHECK(peer.ws);
        uwserve::Socket *ws = std::exchange(peer.ws, nullptr);
        ws->getUserData()->handle = nullptr;
        peer.closes++;
        peer.code = code;
        return ws;
    }

    static peer_t *peer_of(uwserve::Socket *ws) { return (peer_t *) ws->getUserData()->handle; }

    static peer_t &live(uwserve::Socket *ws) {
        peer_t *peer = peer_of(ws);
        CHECK(peer && peer->ws == ws && peer->opens == 1 && peer->closes == 0);
        return *peer;
    }

    void on_open(uwserve::Socket *ws) override {
        peer_t *peer = peer_of(ws);
        CHECK(peer && !peer->ws);
        CHECK_EQ(peer->opens, 0);
        peer->opens = 1;
        peer->ws = ws;
        ws->subscribe("all");
    }

    void on_message(uwserve::Socket *ws, std::string_view message, uwserve::Content content) override {
        if (!peer_of(ws)) return;  // closed by us: what it still sends is ignored by the layer above
        peer_t &peer = live(ws);
        CHECK(message.size() <= limits.websocket.max_payload_length);
        const bool is_text = content != uwserve::Content::kBinary;
        CHECK(!is_text || utf8_is_valid(message));
        if (content == uwserve::Content::kAscii) {
            for (char c : message) CHECK((c & 0x80) == 0);
        }
        messages++;
        note(peer.transcript, is_text ? 't' : 'b', message);
        const std::string copy(message);  // the view dies with whatever is done next
        const uWS::OpCode opcode = is_text ? uWS::OpCode::TEXT : uWS::OpCode::BINARY;
        switch (copy.empty() || !acts ? 0 : copy[0]) {
        case 'P':
            publish(copy, opcode);
            break;
        case 'C':
            send(peer, copy, opcode);
            end(peer, 4000, "as asked");
            break;
        case 'T':
            terminate(peer);
            break;
        case 'O':  // another one
            for (const auto &other : peers) {
                if (other.get() != &peer && other->ws) {
                    copy.size() & 1 ? terminate(*other) : end(*other, 4001, "by another");
                    break;
                }
            }
            break;
        case 'U':
            ws->unsubscribe("all");
            break;
        case 'L':  // large: several times what the kernel takes at once
            send(peer, std::string(300'000, 'l'), uWS::OpCode::BINARY, false);
            break;
        case 'G':
            send(peer, copy, uWS::OpCode::PING);
            break;
        case 'S':
            us_socket_pause(uwserve::raw(ws), US_PAUSE_USER);
            us_socket_resume(uwserve::raw(ws), US_PAUSE_USER);
            send(peer, copy, opcode);
            break;
        case 'W':  // wait
            us_socket_pause(uwserve::raw(ws), US_PAUSE_QUEUE);
            send(peer, copy, opcode);
            break;
        case 'A':
            answer_waiting();
            break;
        default:
            send(peer, copy, opcode, copy.size() & 1);
        }
    }

    void on_unparsed(uwserve::Socket *ws, std::string_view rest) override {
        CHECK(uwserve::raw(ws)->pause_reasons & US_PAUSE_QUEUE);
        live(ws).unparsed += rest;
    }

    void on_drain(uwserve::Socket *ws) override {
        if (peer_of(ws)) live(ws);
    }
    void on_ping(uwserve::Socket *ws, std::string_view data) override {
        if (peer_of(ws)) note(live(ws).transcript, 'i', data);
        CHECK(data.size() <= 125);
    }
    void on_expire(uwserve::Socket *ws) override { end(*peer_of(ws), 1001, "too old"); }

    void on_pong(uwserve::Socket *ws, std::string_view data) override {
        if (peer_of(ws)) note(live(ws).transcript, 'o', data);
        CHECK(data.size() <= 125);
    }

    void on_close(uwserve::Socket *ws, int code, std::string_view reason) override {
        peer_t *peer = peer_of(ws);
        if (!peer) return;
        CHECK(peer->ws == ws);
        CHECK(code >= 1000 && code <= 4999);
        CHECK(reason.size() <= 200);
        detach(*peer, code);
    }

    void on_request(uwserve::HttpConnection &conn) override {
        requests++;
        conn.request = this;
        if (answer_later) {
            waiting.push_back(&conn);
        } else {
            answer(conn);
        }
    }

    void on_settled(uwserve::HttpConnection &conn) override {
        if (!conn.request) return;
        conn.request = nullptr;
        settled++;
        std::erase(waiting, &conn);
    }

    void answer(uwserve::HttpConnection &conn) {
        const uwserve::Handshake handshake = uwserve::read_handshake(*conn.head);
        if (handshake.verdict == uwserve::Handshake::Verdict::kAcceptable) {
            peers.push_back(std::make_unique<peer_t>());
            on_settled(conn);
            uwserve::UpgradeAnswer answer{};
            answer.key = handshake.key;
            if (!handshake.protocols.empty()) answer.protocol = handshake.protocols[0];
            answer.user.handle = peers.back().get();
            const uwserve::ExtensionAnswer extensions = uwserve::negotiate_extensions(*conn.head, deflate);
            answer.extensions = extensions.field;
            answer.user.compression = extensions.agreed;
            uwserve::upgrade_to_websocket(conn, answer);
            return;
        }
        static constexpr std::pair<std::string_view, std::string_view> fields[] = {{"X-Answer", "yes"}};
        uwserve::send_response(conn, "200 OK", fields, conn.body.view(), nullptr);
    }
};

// --- a client's side ---

constexpr std::string_view kHandshake =
    "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

// A masked frame; `first` is its first byte.
inline std::string client_frame(unsigned char first, std::string_view payload) {
    std::string out(1, (char) first);
    if (payload.size() < 126) {
        out += (char) (0x80 | payload.size());
    } else {
        const bool big = payload.size() > 65535;
        out += (char) (big ? 0xff : 0xfe);
        for (int shift = big ? 56 : 8; shift >= 0; shift -= 8) out += (char) ((uint64_t) payload.size() >> shift);
    }
    static const char mask[] = {0x11, 0x22, 0x33, 0x44};
    out.append(mask, 4);
    for (size_t i = 0; i < payload.size(); i++) out += (char) (payload[i] ^ mask[i & 3]);
    return out;
}

// Checks the stream of a server that has been sent a handshake: whole frames, no mask, no opcode that is not one, and
// nothing behind a Close. `complete` = the stream has ended in order, so that no frame may be cut.
inline void check_server_stream(std::string_view stream, bool complete) {
    const size_t head = stream.find("\r\n\r\n");
    if (head == std::string_view::npos || stream.substr(0, 12) != "HTTP/1.1 101") return;
    stream.remove_prefix(head + 4);
    bool closed = false, inside = false;
    while (!stream.empty()) {
        CHECK(!closed);
        const unsigned char first = (unsigned char) stream[0];
        const unsigned opcode = first & 15;
        CHECK((first & 0x30) == 0);
        CHECK(opcode <= 2 || (opcode >= 8 && opcode <= 10));
        if (stream.size() < 2) break;
        const unsigned char second = (unsigned char) stream[1];
        CHECK(second < 128);
        uint64_t size = second;
        size_t start = 2;
        if (second > 125) {
            start = second == 126 ? 4 : 10;
            if (stream.size() < start) break;
            size = 0;
            for (size_t i = 2; i < start; i++) size = size << 8 | (unsigned char) stream[i];
            CHECK(size > (second == 126 ? 125u : 65535u));
        }
        if (opcode >= 8) CHECK((first & 0xf0) == 0x80 && second <= 125);
        if (opcode < 8) {
            CHECK_EQ(opcode == 0, inside);
            inside = !(first & 0x80);
        }
        if (stream.size() - start < size) break;
        closed = opcode == 8;
        if (closed) CHECK(size != 1);
        stream.remove_prefix(start + size);
    }
    if (complete) CHECK(stream.empty());
}
