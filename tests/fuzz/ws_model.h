// ws_model.h - RFC 6455 as a slow model: the whole stream of a client in, what a server without extensions must make of
// it out. Written from the sections named below and nothing else, to be compared with the real thing.
#pragma once

#include "../cpp/support/instance_server.h"

struct ws_model_t {
    std::string transcript;  // in the form of instance_server_t::note
    int code = 0;  // of the server's close callback; 0: still open
    int or_code = 0;  // a frame that breaks two rules may be failed by either
    bool maybe = false;  // the violation is in a header that has not come in full: it may be noticed already

    ws_model_t(std::string_view stream, size_t limit) {
        while (!code && frame(stream, limit)) {
        }
    }

  private:
    std::string message;
    int opcode = -1;  // of the message that is being received

    static bool valid_code(int c) {  // section 7.4
        return (c >= 1000 && c <= 1003) || (c >= 1007 && c <= 1014) || (c >= 3000 && c <= 4999);
    }

    void fail(int with, int or_with = 0) {
        code = with;
        or_code = or_with;
    }

    static uint64_t long_length(std::string_view stream, size_t wide) {
        uint64_t length = 0;
        for (size_t i = 0; i < wide; i++) length = length << 8 | (unsigned char) stream[2 + i];
        return length;
    }

    // Takes one frame off the stream. False: more bytes are needed, or it is over.
    bool frame(std::string_view &stream, size_t limit) {
        const auto at = [&](size_t i) { return (unsigned char) stream[i]; };
        if (stream.empty()) return false;
        const bool fin = at(0) & 0x80, masked = stream.size() < 2 || at(1) & 0x80;
        const int op = at(0) & 15;
        const bool control = op >= 8;
        const unsigned short_length = stream.size() < 2 ? 0 : at(1) & 127;
        const size_t wide = short_length == 126 ? 2 : short_length == 127 ? 8 : 0;
        // Section 5.2, 5.4 and 5.5: all of these are in the first two bytes.
        bool wrong = (at(0) & 0x70) || !masked || (op > 2 && op < 8) || op > 10;
        wrong = wrong || (control && (!fin || short_length > 125));
        wrong = wrong || (op == 0 && opcode < 0) || ((op == 1 || op == 2) && opcode >= 0);
        if (stream.size() < 2 + wide + 4) {
            // So much of the length may be known that it is too big whatever follows.
            maybe = true;
            if (wrong) return fail(1002, 1009), false;
            std::string known(stream.substr(0, 2 + wide));
            known.resize(2 + wide);
            const uint64_t least = wide ? long_length(known, wide) : short_length;
            const bool all = stream.size() >= 2 + wide;
            if (least >> 63 || (all && wide && least < (wide == 2 ? 126u : 65536u))) return fail(1002, 1009), false;
            if (!control && message.size() + least > limit) fail(1009);
            return false;
        }
        uint64_t length = short_length;
        if (wide) {
            length = long_length(stream, wide);
            wrong = wrong || length < (wide == 2 ? 126u : 65536u) || length >> 63;
        }
        const bool too_big = !control && (length > limit || message.size() + length > limit);
        if (wrong) return fail(1002, too_big ? 1009 : 0), false;
        if (too_big) return fail(1009), false;
        const size_t start = 2 + wide + 4;
        const size_t have = std::min<uint64_t>(length, stream.size() - start);
        std::string payload(stream.substr(start, have));
        for (size_t i = 0; i < have; i++) payload[i] = (char) (payload[i] ^ stream[2 + wide + (i & 3)]);
        return control ? control_frame(stream, op, payload, start, length)
                       : data_frame(stream, op, payload, start, length, fin);
    }

    bool control_frame(std::string_view &stream, int op, const std::string &payload, size_t start, uint64_t length) {
        if (payload.size() < length) return false;
        stream.remove_prefix(start + length);
        if (op != 8) {
            instance_server_t::note(transcript, op == 9 ? 'i' : 'o', payload);
            return true;
        }
        if (length == 0) return fail(1005), false;  // section 5.5.1
        if (length == 1) return fail(1002), false;
        const int given = (unsigned char) payload[0] << 8 | (unsigned char) payload[1];
        const bool text = utf8_is_valid(std::string_view(payload).substr(2));
        if (!valid_code(given)) return fail(1002, text ? 0 : 1007), false;
        return fail(text ? given : 1007), false;
    }

    bool data_frame(std::string_view &stream, int op, const std::string &payload, size_t start, uint64_t length,
                    bool fin) {
        if (op) opcode = op;
        const size_t before = message.size();
        message += payload;
        bool complete = true;
        if (opcode == 1 && utf8_first_bad(message, &complete) < message.size()) return fail(1007), false;  // 8.1
        if (payload.size() < length) {
            message.resize(before);
            return false;
        }
        stream.remove_prefix(start + length);
        if (!fin) return true;
        if (opcode == 1 && !complete) return fail(1007), false;
        instance_server_t::note(transcript, opcode == 1 ? 't' : 'b', message);
        message.clear();
        opcode = -1;
        return true;
    }
};
