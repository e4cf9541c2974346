// The frame parser and the receive path, in a whole Instance, against the model of RFC 6455 in ws_model.h. Input: a byte for
// the number of bytes of the cutting pattern, the pattern, a byte that may mask the frames, then what the client sends.
//
// Promise: the messages, pings and pongs delivered and the way the connection closes are those of the model, however the
// bytes arrive; nothing behind a violation or a Close is delivered; the answer is whole frames, echoes first.
#include "fuzz.h"
#include "pipe.h"
#include "ws_model.h"

static constexpr size_t kLimit = 1 << 12;

// So that an input need not get masks right: sets the mask bit of every frame that is well enough formed to be found.
static std::string with_mask_bits(std::string_view stream) {
    std::string out(stream);
    for (size_t i = 0; i + 1 < out.size();) {
        out[i + 1] = (char) (out[i + 1] | 0x80);
        const unsigned length = out[i + 1] & 127;
        if (length > 126) break;
        size_t size = length, start = 6;
        if (length == 126) {
            if (i + 4 > out.size()) break;
            size = (size_t) (unsigned char) out[i + 2] << 8 | (unsigned char) out[i + 3];
            start = 8;
        }
        i += start + size;
    }
    return out;
}

static void run(std::string_view stream, std::string_view pattern, const ws_model_t &model, bool at_once) {
    instance_server_t server;
    CHECK(server.instance);
    server.acts = false;
    server.limits.websocket.max_payload_length = kLimit;
    pipe_t client(server);
    cuts_t cuts(pattern);
    if (at_once) {
        client.say(std::string(kPlainHandshake) + std::string(stream));
    } else {
        client.say(kPlainHandshake);
        server.iterate();
        for (size_t at = 0; at < stream.size();) {
            const size_t length = cuts.next(stream.size() - at);
            client.say(stream.substr(at, length));
            at += length;
            server.iterate();
            client.hear();
        }
    }
    for (int i = 0; i < 8; i++) server.iterate(), client.hear();
    CHECK_EQ(server.peers.size(), 1);
    const instance_server_t::peer_t &peer = *server.peers[0];
    const bool fits =
        peer.code == model.code || (peer.code && peer.code == model.or_code) || (!peer.code && model.maybe);
    if (peer.transcript != model.transcript || !fits) {
        fprintf(stderr, "engine: close %d\n%s\nmodel: close %d or %d\n%s\n", peer.code, peer.transcript.c_str(),
                model.code, model.or_code, model.transcript.c_str());
        CHECK(!"the engine and the model differ");
    }
    check_server_stream(client.heard, client.ended);
    CHECK_EQ(client.ended, peer.code != 0);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input_t input(data, size);
    const std::string_view pattern = input.take(input.byte() % 8);
    const bool mask = input.byte() & 1;
    const std::string_view rest = input.rest();
    if (rest.size() > 20'000) return 0;
    const std::string stream = mask ? with_mask_bits(rest) : std::string(rest);
    const ws_model_t model(stream, kLimit);
    run(stream, "", model, true);
    run(stream, pattern.empty() ? std::string_view("\0", 1) : pattern, model, false);
    return 0;
}
