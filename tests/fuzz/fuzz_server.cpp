// A whole server. Input: operations of four clients, the network and the server itself, in any order: connect, handshake,
// raw bytes in pieces of any size, frames, reading, leaving, short and failing system calls, publishing, closing.
//
// Promises: no crash, no hang, those that engine_server.h checks (open and close exactly once, nothing delivered after
// close, valid text, requests settled once), and each client sees whole frames and nothing behind a Close.
#include "fuzz.h"
#include "pipe.h"
#include "sys.h"

#include <optional>

namespace {

size_t most_bytes, calls_until_failure;
int failure;

int hook(us_sys_call_t call, size_t *length) {
    if (length && most_bytes && *length > most_bytes) *length = most_bytes;
    if (calls_until_failure && --calls_until_failure == 0 && call != US_SYS_CLOSE) return failure;
    return 0;
}

struct world_t {
    engine_server_t server;
    struct client_t {
        std::optional<pipe_t> pipe;
        bool websocket = false;  // it began with a proper handshake, so its answers must be frames
    } clients[4];
    int budget = 400;  // iterations, so that an input ends

    void turn() {
        if (budget-- > 0) server.iterate();
    }

    void open(client_t &client, bool handshake) {
        drop(client);
        client.pipe.emplace(server);
        client.websocket = handshake;
        if (handshake) client.pipe->say(kHandshake);
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
        while (step && bytes.size() > step && budget > 0) {
            client.pipe->say(bytes.substr(0, step));
            bytes.remove_prefix(step);
            turn();
        }
        client.pipe->say(bytes);
    }

    void close_a_peer(unsigned which) {
        std::vector<engine_server_t::peer_t *> open;
        for (const auto &peer : server.peers) {
            if (peer->ws) open.push_back(peer.get());
        }
        if (open.empty()) return;
        engine_server_t::peer_t &peer = *open[which / 2 % open.size()];
        which & 1 ? server.terminate(peer) : server.end(peer, 4002, "chosen");
    }

    void act(input_t &input) {
        const unsigned op = input.byte();
        client_t &client = clients[op >> 4 & 3];
        static constexpr int errors[] = {EAGAIN, ECONNRESET, EINTR, ENOMEM, EPIPE, ENOBUFS, EMFILE, ETIMEDOUT};
        switch (op & 15) {
        case 0:
            return open(client, false);
        case 1:
            return open(client, true);
        case 2: {
            const unsigned step = input.byte();
            return say(client, input.take(input.byte()), step);
        }
        case 3: {
            const unsigned step = input.byte();
            return say(client, input.take(input.word()), step);
        }
        case 4: {
            const unsigned first = input.byte(), step = input.byte();
            return say(client, client_frame((unsigned char) first, input.take(input.byte())), step);
        }
        case 5: {
            const unsigned first = input.byte(), fill = input.byte();
            return say(client, client_frame((unsigned char) first, std::string(input.word(), (char) fill)), 0);
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
            if (client.pipe) client.pipe->finish();
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
    world_t world;
    CHECK(world.server.engine);
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
