// A whole server. Input: settings (TLS, compression), then operations of four clients, the network and the server itself, in
// any order: connect, handshake with one of some offers, raw bytes in pieces of any size, frames, compressed and fragmented
// messages, bytes that are no TLS, reading, leaving, short and failing system calls, publishing, closing.
//
// An operation is a byte: which one, which client (bits 4 and 5), which variant (bits 6 and 7); then its operands.
//
// Promises: no crash, no hang, those that instance_server.h checks (open and close exactly once, nothing delivered after
// close, valid text, requests settled once), and each client sees whole frames and nothing behind a Close.
#include "fuzz.h"
#include "secure_pipe.h"
#include "usockets/loop/sys.h"

#include <optional>
#include <zlib.h>

namespace {

size_t most_bytes, calls_until_failure;
int failure;

int hook(us_sys_call_t call, size_t *length) {
    if (length && most_bytes && *length > most_bytes) *length = most_bytes;
    if (calls_until_failure && --calls_until_failure == 0 && call != US_SYS_CLOSE) return failure;
    return 0;
}

constexpr std::string_view kOffers[] = {
    "permessage-deflate",
    "permessage-deflate; client_max_window_bits=9; server_max_window_bits=10",
    "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
    "x-unknown",
};

std::string handshake_with(std::string_view offer) {
    std::string text(kHandshake);
    const size_t at = text.find("permessage-deflate");
    return text.replace(at, strlen("permessage-deflate"), offer);
}

// As a client without context takeover, which any server can read.
std::string deflated(std::string_view text) {
    z_stream stream{};
    CHECK_EQ(deflateInit2(&stream, 1, Z_DEFLATED, -9, 1, Z_DEFAULT_STRATEGY), Z_OK);
    std::string out(deflateBound(&stream, text.size()) + 64, 0);
    stream.next_in = (Bytef *) text.data();
    stream.avail_in = (uInt) text.size();
    stream.next_out = (Bytef *) out.data();
    stream.avail_out = (uInt) out.size();
    CHECK_EQ(deflate(&stream, Z_SYNC_FLUSH), Z_OK);
    out.resize(out.size() - stream.avail_out - 4);
    deflateEnd(&stream);
    return out;
}

us_tls_config_t *tls_config() {
    static us_tls_config_t *config = make_config({entry_of(localhost())});
    return config;
}

struct world_t {
    instance_server_t server;
    bool over_tls;
    struct client_t {
        std::optional<secure_pipe_t> pipe;
        bool websocket = false;  // it began with a proper handshake, so its answers must be frames
    } clients[4];
    int budget = 400;  // iterations, so that an input ends

    explicit world_t(unsigned settings) : over_tls(settings & 1) {
        static constexpr const char *kinds[] = {"dedicated", "shared", "4KB", "disable"};
        server.deflate.compress = *uwserve::compress_side(kinds[settings >> 1 & 3]);
        server.deflate.decompress = *uwserve::decompress_side(kinds[settings >> 3 & 3]);
        if (over_tls) CHECK(us_socket_context_set_tls(server.instance->http_context(), tls_config()));
    }

    void turn() {
        if (budget-- > 0) server.iterate();
    }

    void open(client_t &client, const std::string &handshake) {
        drop(client);
        client.pipe.emplace(server, over_tls);
        for (int i = 0; i < 8 && !client.pipe->is_ready(); i++) {
            client.pipe->flush();
            turn();
            client.pipe->hear();
        }
        client.websocket = !handshake.empty();
        say(client, handshake, 0);
    }

    void drop(client_t &client) {
        if (!client.pipe) return;
        client.pipe->hear();
        if (client.websocket) check_server_stream(client.pipe->heard, false);
        client.pipe.reset();
    }

    // In pieces of `step` bytes with an iteration behind each; 0 = all at once.
    void say(client_t &client, std::string_view bytes, unsigned step) {
        if (!client.pipe) return;
        client.pipe->say(bytes);
        while (client.pipe->flush(step ? step : SIZE_MAX) && step && budget > 0) turn();
    }

    // In frames of `size` bytes.
    void say_fragments(client_t &client, unsigned first, std::string_view payload, size_t size) {
        std::string frames;
        do {
            const std::string_view piece = payload.substr(0, size);
            payload.remove_prefix(piece.size());
            frames += client_frame((unsigned char) (first | (payload.empty() ? 0x80 : 0)), piece);
            first = 0;
        } while (!payload.empty());
        say(client, frames, 0);
    }

    void close_a_peer(unsigned which) {
        std::vector<instance_server_t::peer_t *> open;
        for (const auto &peer : server.peers) {
            if (peer->ws) open.push_back(peer.get());
        }
        if (open.empty()) return;
        instance_server_t::peer_t &peer = *open[which / 2 % open.size()];
        which & 1 ? server.terminate(peer) : server.end(peer, 4002, "chosen");
    }

    void act(input_t &input) {
        const unsigned op = input.byte(), variant = op >> 6;
        client_t &client = clients[op >> 4 & 3];
        static constexpr int errors[] = {EAGAIN, ECONNRESET, EINTR, ENOMEM, EPIPE, ENOBUFS, EMFILE, ETIMEDOUT};
        switch (op & 15) {
        case 0:
            return open(client, {});
        case 1:
            return open(client, handshake_with(kOffers[variant]));
        case 2: {
            const unsigned step = input.byte();
            const std::string_view bytes = input.take(input.byte());
            if (variant && client.pipe) {
                client.pipe->disturb(bytes);
                return say(client, {}, step);
            }
            return say(client, bytes, step);
        }
        case 3: {
            const unsigned step = input.byte();
            return say(client, input.take(input.word()), step);
        }
        case 4: {
            const unsigned first = input.byte(), step = input.byte();
            const std::string_view text = input.take(input.byte());
            const std::string packed = variant & 1 ? deflated(text) : std::string(text);
            if (variant & 2) return say_fragments(client, (first & 0x4f) | (variant & 1 ? 0x40 : 0), packed, step + 1);
            return say(client, client_frame((unsigned char) (first | (variant & 1 ? 0x40 : 0)), packed), step);
        }
        case 5: {
            const unsigned first = input.byte(), fill = input.byte();
            const std::string text(input.word(), (char) fill);
            if (variant & 1) return say(client, client_frame((unsigned char) (first | 0x40), deflated(text)), 0);
            if (variant & 2) return say_fragments(client, first & 15, text, 1 + text.size() / 7);
            return say(client, client_frame((unsigned char) first, text), 0);
        }
        case 6:
        case 7:
            return turn();
        case 8:
            if (client.pipe) client.pipe->hear();
            return;
        case 9:
            return drop(client);
        case 10:
            if (client.pipe) client.pipe->finish(variant & 1);
            return;
        case 11:
            most_bytes = input.byte();
            return;
        case 12:
            calls_until_failure = input.byte();
            failure = errors[input.byte() % 8];
            return;
        case 13: {
            const unsigned kind = input.byte();
            const std::string text(kind >> 1, 'p');
            return server.publish(text, kind & 1 ? uWS::OpCode::TEXT : uWS::OpCode::BINARY);
        }
        case 14:
            return close_a_peer(input.byte());
        case 15:
            server.answer_later = !server.answer_later;
            return server.answer_waiting();
        }
    }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input_t input(data, size);
    us_sys_hook = nullptr;
    most_bytes = calls_until_failure = 0;
    world_t world(input.byte());
    us_sys_hook = hook;
    while (!input.empty()) world.act(input);
    most_bytes = calls_until_failure = 0;
    for (int i = 0; i < 6; i++) {
        world.server.iterate();
        for (world_t::client_t &client : world.clients) {
            if (client.pipe) client.pipe->hear();
        }
    }
    for (world_t::client_t &client : world.clients) world.drop(client);
    world.server.iterate(2);
    us_sys_hook = nullptr;
    return 0;
}
