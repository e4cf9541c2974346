// The frame parser against tables: what is delivered and how it fails, whole, byte by byte and at every split point.
#include <random>
#include <string>
#include <vector>

#include "frame_recorder.h"

using namespace uwserve;

namespace {

std::string length_bytes(uint64_t value, int width) {
    std::string bytes;
    for (int shift = 8 * (width - 1); shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift);
    return bytes;
}

// A masked frame; `first` is its first byte. `width` of the extended length, -1: the smallest that holds it.
std::string frame(int first, const std::string &payload, int width = -1, uint64_t announced = ~0ull) {
    const uint64_t size = announced == ~0ull ? payload.size() : announced;
    if (width < 0) width = size < 126 ? 0 : size < 65536 ? 2 : 8;
    std::string bytes{static_cast<char>(first)};
    bytes += static_cast<char>(0x80 | (width == 0 ? static_cast<int>(size) : width == 2 ? 126 : 127));
    if (width) bytes += length_bytes(size, width);
    const unsigned char key[4] = {0xA1, 0x02, 0xF3, 0x44};
    bytes.append(reinterpret_cast<const char *>(key), 4);
    for (size_t i = 0; i < payload.size(); i++) {
        bytes += static_cast<char>(static_cast<unsigned char>(payload[i]) ^ key[i % 4]);
    }
    return bytes;
}

struct Vector {
    const char *name;
    std::string bytes;
    std::string events;
    Options options{};
};

constexpr int kText = 0x81, kBinary = 0x82, kClose = 0x88, kPing = 0x89, kPong = 0x8A, kLast = 0x80;

std::string of(const Violation &violation) {
    return std::to_string(violation.code) + " " + std::string(violation.text) + ";";
}

// Fed in pieces that end at `cuts`, each from memory of exactly its size, so that AddressSanitizer sees what is beside it.
std::string run(const std::string &bytes, const std::vector<size_t> &cuts, const Options &options) {
    FrameState state;
    Recorder sink{options};
    size_t at = 0;
    for (size_t i = 0; i <= cuts.size(); i++) {
        const size_t end = i < cuts.size() ? cuts[i] : bytes.size();
        std::vector<char> piece(bytes.begin() + static_cast<long>(at), bytes.begin() + static_cast<long>(end));
        const size_t events = sink.events.size();
        parse_frames(state, piece.data(), piece.size(), sink);
        at = end;
        const bool closed = sink.events.size() > events && sink.events.back().starts_with("close");
        if (closed || static_cast<int>(sink.events.size()) == options.stop_after) break;  // as the layer above does
    }
    return sink.all();
}

// A sink that wants to stop after each event, and is then fed what was left over.
struct Stopping : Recorder {
    bool on_message(char *data, size_t size, MessageKind kind) {
        Recorder::on_message(data, size, kind);
        return false;
    }
    bool on_assembled(MessageKind kind) {
        Recorder::on_assembled(kind);
        return false;
    }
    bool on_control(Opcode opcode, char *data, size_t size) {
        ended |= opcode == Opcode::kClose;
        Recorder::on_control(opcode, data, size);
        return false;
    }
    bool ended = false;
};

std::string run_stopping(const std::string &bytes, const Options &options) {
    FrameState state;
    Stopping sink;
    sink.options = options;
    std::string rest = bytes;
    while (!rest.empty() && !sink.failed && !sink.ended) {
        std::vector<char> piece(rest.begin(), rest.end());
        const size_t events = sink.events.size();
        const auto parsed = static_cast<size_t>(parse_frames(state, piece.data(), piece.size(), sink) - piece.data());
        CHECK(parsed > 0 && parsed <= piece.size());
        CHECK(parsed == piece.size() || sink.events.size() == events + 1);
        rest.erase(0, parsed);
    }
    return sink.all();
}

std::vector<size_t> every_byte(size_t size) {
    std::vector<size_t> cuts;
    for (size_t i = 1; i < size; i++) cuts.push_back(i);
    return cuts;
}

void check_vector(const Vector &vector) {
    const auto check = [&](const std::vector<size_t> &cuts, const char *how, size_t where) {
        const std::string events = run(vector.bytes, cuts, vector.options);
        if (events != vector.events) {
            fprintf(stderr, "%s, %s %zu:\n  got      %.300s\n  expected %.300s\n", vector.name, how, where,
                    events.c_str(), vector.events.c_str());
            CHECK(false);
        }
    };
    check({}, "whole", 0);
    check(every_byte(vector.bytes.size()), "byte by byte", 0);
    const size_t step = vector.bytes.size() > 2000 ? 997 : 1;
    for (size_t split = 1; split < vector.bytes.size(); split += step) check({split}, "split at", split);
    if (vector.options.stop_after < 0) CHECK(run_stopping(vector.bytes, vector.options) == vector.events);
}

const std::string kBig(65'536, 'b'), kMedium(300, 'm');
const std::string kEuro = "\xE2\x82\xAC";
const Options kDeflate{.may_compress = true};

const Vector kValid[] = {
    {"text", frame(kText, "hello"), "T(hello);"},
    {"empty messages", frame(kText, "") + frame(kBinary, ""), "T();B();"},
    {"many", frame(kText, "a") + frame(kBinary, "b") + frame(kText, "c"), "T(a);B(b);T(c);"},
    {"125, 126, 65535, 65536 bytes",
     frame(kBinary, std::string(125, 'x')) + frame(kBinary, std::string(126, 'y')) +
         frame(kBinary, std::string(65535, 'z')) + frame(kBinary, kBig),
     "B(" + std::string(125, 'x') + ");B(" + std::string(126, 'y') + ");B(" + std::string(65535, 'z') + ");B(" + kBig +
         ");"},
    {"text beyond ASCII", frame(kText, kEuro + "uro" + kMedium), "T(" + kEuro + "uro" + kMedium + ");"},
    {"fragments", frame(1, "one") + frame(0, "") + frame(0, "two") + frame(kLast, "three"), "T(onetwothree);"},
    {"fragments that are empty", frame(2, "") + frame(0, "") + frame(kLast, ""), "B();"},
    {"a character over fragments",
     frame(1, kEuro.substr(0, 1)) + frame(0, kEuro.substr(1, 1)) + frame(kLast, kEuro.substr(2)), "T(" + kEuro + ");"},
    {"controls between fragments",
     frame(1, "a") + frame(kPing, "p") + frame(0, "b") + frame(kPong, "") + frame(kLast, "c") + frame(kBinary, "d"),
     "ping(p);pong();T(abc);B(d);"},
    {"the largest control", frame(kPing, std::string(125, 'p')), "ping(" + std::string(125, 'p') + ");"},
    {"close and nothing after",
     frame(kClose,
           "\x03\xE8"
           "bye") +
         frame(kText, "late"),
     "close(\x03\xE8"
     "bye);"},
    {"close inside a message", frame(1, "a") + frame(kClose, ""), "close();"},
    {"compressed", frame(kText | 0x40, "\xFF\xFE") + frame(kBinary, "\xFF"), "T*(\xFF\xFE);B(\xFF);", kDeflate},
    {"compressed fragments", frame(0x42, "a") + frame(kPing, "") + frame(kLast, "b") + frame(kText, "c"),
     "ping();B*(ab);T(c);", kDeflate},
    {"exactly the limit",
     frame(kBinary, "12345") + frame(2, "123") + frame(kLast, "45"),
     "B(12345);B(12345);",
     {.limit = 5}},
    {"a limit of nothing, controls exempt", frame(kPing, "ping") + frame(kText, ""), "ping(ping);T();", {.limit = 0}},
    {"a handler that stops", frame(kText, "a") + frame(kText, "b"), "T(a);", {.stop_after = 1}},
    {"a ping handler that stops", frame(kPing, "a") + frame(kText, "b"), "ping(a);", {.stop_after = 1}},
    {"an assembled message's handler that stops",
     frame(1, "a") + frame(kLast, "b") + frame(kText, "b"),
     "T(ab);",
     {.stop_after = 1}},
};

struct Broken {
    const char *name;
    std::string before;  // valid, and what is expected of it
    std::string events;
    std::string bytes;  // the violation shows with the last of these
    Violation violation;
    Options options{};
};

std::string head(std::initializer_list<int> bytes) {
    std::string text;
    for (int byte : bytes) text += static_cast<char>(byte);
    return text;
}

// `payload` unfinished in a frame that announces 1,000 bytes.
std::string partial(int first, const std::string &payload) { return frame(first, payload, 2, 1000); }

const Broken kBroken[] = {
    {"RSV2", "", "", head({0xA1}), kReservedBits},
    {"RSV3", "", "", head({0x92}), kReservedBits},
    {"RSV3 on a ping", "", "", head({0x99}), kReservedBits},
    {"RSV1 unasked", "", "", head({0xC1}), kCompressedUnasked},
    {"RSV1 on a ping", "", "", head({0xC9}), kCompressedControl, kDeflate},
    {"RSV1 on a pong", "", "", head({0xCA}), kCompressedControl, kDeflate},
    {"RSV1 on a close", "", "", head({0xC8}), kCompressedControl, kDeflate},
    {"RSV1 on a continuation", frame(0x41, "a"), "", head({0xC0}), kCompressedContinuation, kDeflate},
    {"RSV1 on a continuation of a plain message", frame(1, "a"), "", head({0x40}), kCompressedContinuation, kDeflate},
    {"opcode 3", "", "", head({0x83}), kReservedOpcode},
    {"opcode 7", "", "", head({0x87}), kReservedOpcode},
    {"opcode 11", "", "", head({0x8B}), kReservedOpcode},
    {"opcode 15 without FIN", "", "", head({0x0F}), kReservedOpcode},
    {"opcode 4 inside a message", frame(1, "a"), "", head({0x04}), kReservedOpcode},
    {"a fragmented ping", "", "", head({0x09}), kFragmentedControl},
    {"a fragmented close", frame(2, "a"), "", head({0x08}), kFragmentedControl},
    {"a ping of 126", "", "", head({0x89, 0xFE}), kLongControl},
    {"a pong of 2^63", "", "", head({0x8A, 0xFF}), kLongControl},
    {"a close of 126", "", "", head({0x88, 0xFE}), kLongControl},
    {"a stray continuation", "", "", head({0x80}), kStrayContinuation},
    {"a stray continuation after a message", frame(1, "a") + frame(kLast, "b"), "T(ab);", head({0x00}),
     kStrayContinuation},
    {"text inside text", frame(1, "a"), "", head({0x81}), kInterruptedMessage},
    {"binary inside text", frame(1, "a"), "", head({0x82}), kInterruptedMessage},
    {"binary fragment inside binary", frame(2, "a") + frame(0, "b"), "", head({0x02}), kInterruptedMessage},
    {"text inside text after a ping", frame(1, "a") + frame(kPing, "p"), "ping(p);", head({0x81}), kInterruptedMessage},
    {"unmasked text", "", "", head({0x81, 0x05}), kUnmasked},
    {"unmasked empty text", "", "", head({0x81, 0x00}), kUnmasked},
    {"unmasked close", "", "", head({0x88, 0x02}), kUnmasked},
    {"unmasked with 16 bits", "", "", head({0x82, 0x7E}), kUnmasked},
    {"unmasked continuation", frame(1, "a"), "", head({0x80, 0x01}), kUnmasked},
    {"16 bits for 0", "", "", head({0x82, 0xFE, 0, 0}), kLongLength},
    {"16 bits for 125", "", "", head({0x82, 0xFE, 0, 125}), kLongLength},
    {"64 bits for 65535", "", "", head({0x82, 0xFF, 0, 0, 0, 0, 0, 0}), kLongLength},
    {"64 bits for 5", frame(kText, "x"), "T(x);", head({0x82, 0xFF, 0, 0, 0, 0, 0, 0}), kLongLength},
    {"the highest bit", "", "", head({0x82, 0xFF, 0x80}), kNegativeLength},
    {"all bits", "", "", head({0x82, 0xFF, 0xFF}), kNegativeLength},
    {"too big by 64 bits, early", "", "", head({0x82, 0xFF, 0x01}), kTooBig},
    {"too big by 64 bits", "", "", head({0x82, 0xFF, 0, 0, 0, 0, 0, 0x01, 0x11, 0x71}), kTooBig},
    {"too big by 16 bits", "", "", head({0x82, 0xFE, 0x03, 0xE9}), kTooBig, {.limit = 1000}},
    {"too big by 16 bits, early", "", "", head({0x82, 0xFE, 0x04}), kTooBig, {.limit = 1000}},
    {"too big by 7 bits", "", "", head({0x81, 0x80 | 6}), kTooBig, {.limit = 5}},
    {"too big by fragments", frame(1, "123") + frame(0, "4"), "", head({0x80, 0x80 | 2}), kTooBig, {.limit = 5}},
    {"too big when compressed", "", "", head({0xC2, 0xFE, 0x01, 0x07}), kTooBig, {.may_compress = true, .limit = 5}},
    {"bad UTF-8 in a whole message's second byte", "", "", partial(kText, "a\xFF"), kBadText},
    {"a lone continuation byte", "", "", partial(kText, "\x80"), kBadText},
    {"C0", "", "", partial(kText, "\xC0"), kBadText},
    {"E0 80", "", "", partial(kText, "\xE0\x80"), kBadText},
    {"ED A0", "", "", partial(kText, "\xED\xA0"), kBadText},
    {"F4 90", "", "", partial(1, "\xF4\x90"), kBadText},
    {"F5", "", "", partial(kText, kMedium + "\xF5"), kBadText},
    {"ASCII after a lead", "", "",
     partial(kText, kEuro + "\xC3"
                            "a"),
     kBadText},
    {"ASCII after a lead in the next fragment", frame(1, kMedium + "\xC3"), "", frame(0, "a", 0, 9), kBadText},
    {"a bad byte in a later fragment", frame(1, "abc") + frame(kPing, ""), "ping();", frame(0, "\xFF", 0, 9), kBadText},
    {"a message that ends inside a character", "", "", frame(kText, kEuro.substr(0, 2)), kBadText},
    {"fragments that end inside a character", frame(1, kEuro.substr(0, 2)), "", frame(kLast, ""), kBadText},
};

}  // namespace

TEST(valid_streams) {
    for (const Vector &vector : kValid) check_vector(vector);
}

// The violation is reported with the byte that shows it, not before and not later, and nothing that follows is delivered.
TEST(violations) {
    for (const Broken &broken : kBroken) {
        Vector vector{broken.name, broken.before + broken.bytes, broken.events + of(broken.violation), broken.options};
        check_vector(vector);
        vector.bytes += frame(kText, "late") + frame(kPing, "late");
        check_vector(vector);
        vector.bytes = broken.before + broken.bytes;
        vector.bytes.pop_back();
        vector.events = broken.events;
        check_vector(vector);
        CHECK(broken.violation.text.size() <= 123);
    }
}

TEST(a_frame_may_be_refused_by_the_layer_above) {
    constexpr Violation kEnough{1008, "enough"};
    FrameState state;
    Recorder sink;
    sink.refuse_control = &kEnough;
    std::string bytes = frame(1, "a") + frame(0, "b") + frame(kPing, "ping");
    parse_frames(state, bytes.data(), bytes.size(), sink);
    CHECK(sink.all() == "1008 enough;");
    CHECK_EQ(sink.fragments, 2);
    CHECK_EQ(sink.controls, 1);
}

TEST(a_whole_message_is_a_view_of_the_buffer) {
    struct Views : Recorder {
        bool on_message(char *data, size_t, MessageKind) {
            at = data;
            return true;
        }
        char *at = nullptr;
    };
    for (size_t size : {5u, 200u, 66'000u}) {
        FrameState state;
        Views sink;
        std::string bytes = frame(kBinary, std::string(size, 'x'));
        const size_t header = bytes.size() - size;
        parse_frames(state, bytes.data(), header, sink);  // the header in a read of its own
        parse_frames(state, bytes.data() + header, size, sink);
        CHECK(sink.at == bytes.data() + header);
        sink.at = nullptr;
        bytes = frame(kBinary, std::string(size, 'x'));
        parse_frames(state, bytes.data(), bytes.size(), sink);
        CHECK(sink.at == bytes.data() + header);
    }
}

TEST(one_byte_of_a_large_frame_takes_little_memory) {
    FrameState state;
    Recorder sink{{.limit = 16u << 20}};
    std::string bytes = frame(kBinary, "x", 8, 16u << 20);
    parse_frames(state, bytes.data(), bytes.size(), sink);
    CHECK_EQ(sink.message_buffer.view().size(), 1);
    CHECK(sink.message_buffer.capacity() <= 128);
}

TEST(large_memory_is_used_again_for_large_messages_only) {
    SpareMemoryPool spare;
    MessageBuffer first, small, large;
    constexpr size_t kMegabyte = 1 << 20;
    memset(first.extend(kMegabyte, 0, spare), 'x', kMegabyte);
    const char *memory = first.data();
    first.give_back(spare);
    CHECK(!first.data() && spare.capacity() == kMegabyte);
    small.extend(60'000, 0, spare);
    CHECK(small.data() != memory && small.capacity() == 60'000);
    memset(large.extend(1000, 1 << 30, spare), 'y', 1000);
    CHECK(large.capacity() == 2000);
    large.extend(kMegabyte / 8, 1 << 30, spare);
    CHECK(large.data() == memory && large.capacity() == kMegabyte && !spare.capacity());
    CHECK(large.view().substr(0, 1000) == std::string(1000, 'y'));
    large.extend(kMegabyte, 0, spare);
    CHECK(large.view().substr(0, 1000) == std::string(1000, 'y'));
    large.extend(8 * kMegabyte, 0, spare);
    large.give_back(spare);  // too much to keep
    CHECK(!spare.capacity());
    large.extend(1000, 0, spare);
    large.give_back(spare);  // not worth it
    CHECK(!spare.capacity());
}

TEST(some_pieces_of_large_memory_are_kept) {
    constexpr size_t kMegabyte = 1 << 20;
    SpareMemoryPool spare;
    MessageBuffer messages[6];
    const auto make = [&spare](MessageBuffer &message, size_t size) {
        memset(message.extend(size, 0, spare), 'x', size);
        return message.data();
    };
    for (size_t i = 0; i < 6; i++) make(messages[i], (i + 1) * kMegabyte / 2);
    const char *const second = messages[1].data(), *const third = messages[2].data(),
                      *const fourth = messages[3].data();
    for (MessageBuffer &message : messages) message.give_back(spare);
    CHECK_EQ(spare.capacity(), (2 + 3 + 4 + 5) * kMegabyte / 2);  // the last would be too much in all
    // The smallest that will do, once enough has arrived.
    MessageBuffer message;
    make(message, 100'000);
    CHECK(message.data() == second);
    CHECK_EQ(message.charge(), 200'000);
    message.extend(1, kMegabyte + kMegabyte / 2, spare);
    CHECK(message.data() == second);
    message.extend(kMegabyte, 100, spare);
    CHECK(message.data() == third && message.view().substr(0, 100'000) == std::string(100'000, 'x'));
    CHECK_EQ(spare.capacity(), (2 + 4 + 5) * kMegabyte / 2);
    // What all of it will need is known from the last frame.
    MessageBuffer known;
    known.extend(100'000, 2 * kMegabyte - 100'000, spare);
    CHECK(known.data() == fourth);
}

TEST(no_memory) {
    struct Full : Recorder {
        char *room(size_t, uint64_t, bool) { return nullptr; }
    };
    FrameState state;
    Full sink;
    std::string bytes = frame(kText, "whole") + frame(1, "part") + frame(kText, "late");
    parse_frames(state, bytes.data(), bytes.size(), sink);
    CHECK(sink.all() == "T(whole);" + of(kNoMemory));
}

TEST(close_payloads) {
    const auto verdict = [](const std::string &payload) {
        uint16_t code;
        std::string_view reason;
        const Violation *violation = read_close_payload(payload, &code, &reason);
        return violation ? std::string(violation->text) : std::to_string(code) + std::string(reason);
    };
    CHECK(verdict("") == "1005");
    CHECK(verdict("\x03") == kOneByteClose.text);
    CHECK(verdict("\x03\xE8"
                  "bye") == "1000bye");
    CHECK(verdict("\x03\xE8"
                  "\xE2\x82") == kBadCloseReason.text);
    for (unsigned code = 0; code < 65536; code++) {
        const bool valid =
            (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
        CHECK(verdict(length_bytes(code, 2)) == (valid ? std::to_string(code) : std::string(kBadCloseCode.text)));
    }
}

// Random streams, valid and not, give the same events whatever the pieces.
TEST(random_streams_in_random_pieces) {
    std::mt19937 random(3);
    for (int round = 0; round < 2000; round++) {
        std::string bytes;
        for (int frames = static_cast<int>(random() % 8); frames >= 0; frames--) {
            static constexpr int kFirst[] = {0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x80, 0x89, 0x8A, 0xC1, 0x41};
            std::string payload;
            const size_t size = random() % 5 == 0 ? random() % 400 : random() % 20;
            while (payload.size() < size) payload += random() % 3 ? "a" : kEuro;
            const int first = kFirst[random() % std::size(kFirst)];
            bytes += frame(first, first >= 0x88 ? payload.substr(0, 125) : payload);
        }
        if (random() % 4 == 0) bytes[random() % bytes.size()] = static_cast<char>(random());
        const Options options{.may_compress = random() % 2 == 0};
        const std::string expected = run(bytes, {}, options);
        for (int i = 0; i < 5; i++) {
            std::vector<size_t> cuts;
            for (size_t at = random() % 40; at < bytes.size(); at += 1 + random() % 40) cuts.push_back(at);
            CHECK(run(bytes, cuts, options) == expected);
        }
        CHECK(run(bytes, every_byte(bytes.size()), options) == expected);
    }
}
