// frame_recorder.h - a sink for the frame parser that writes down what it is told.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "check.h"
#include "uws/websocket/message_buffer.h"
#include "uws/websocket/frame_parser.h"

namespace uwserve {

inline constexpr size_t kLimit = 70'000;

struct Options {
    bool may_compress = false;
    size_t limit = kLimit;
    int stop_after = -1;  // events
};

// Writes down what it is told.
struct Recorder {
    size_t limit() const { return options.limit; }
    bool may_compress() const { return options.may_compress; }
    const Violation *on_control_frame() {
        controls++;
        return refuse_control;
    }
    const Violation *on_fragment(uint64_t) {
        fragments++;
        return nullptr;
    }
    bool on_message(char *data, size_t size, MessageKind kind) {
        std::string what = kind.text ? kind.compressed ? "T*" : "T" : kind.compressed ? "B*" : "B";
        if (kind.text && !kind.compressed) CHECK(kind.ascii == is_ascii(data, size));
        return add(what + "(" + std::string(data, size) + ")");
    }
    char *room(size_t size, uint64_t rest, bool fin) {
        char *place = message_buffer.extend(size, fin ? rest : ~0ull, spare);
        CHECK(message_buffer.capacity() <= std::max<size_t>(2 * message_buffer.view().size(), 128));
        return place;
    }
    bool on_assembled(MessageKind kind) {
        std::string message(message_buffer.view());
        message_buffer.give_back(spare);
        return on_message(message.data(), message.size(), kind);
    }
    bool on_control(Opcode opcode, char *data, size_t size) {
        const char *what = opcode == Opcode::kClose ? "close" : opcode == Opcode::kPing ? "ping" : "pong";
        return add(what + ("(" + std::string(data, size) + ")")) && opcode != Opcode::kClose;
    }
    void fail(const Violation &violation) {
        CHECK(!failed);
        failed = &violation;
        add(std::to_string(violation.code) + " " + std::string(violation.text));
    }
    bool add(std::string event) {
        events.push_back(std::move(event));
        return static_cast<int>(events.size()) != options.stop_after;
    }
    std::string all() const {
        std::string text;
        for (const std::string &event : events) text += event + ";";
        return text;
    }

    Options options{};
    std::vector<std::string> events{};
    MessageBuffer message_buffer{};
    SpareMemoryPool spare{};
    const Violation *failed = nullptr, *refuse_control = nullptr;
    int controls = 0, fragments = 0;
};

}  // namespace uwserve
