// The parser of request heads. Input: a byte that says how the search for the end is cut, then what was received.
//
// Promises: the end is found at the same place however the bytes arrive; a head is either refused with one of the known
// statuses and a reason, or every part of it is what RFC 9112 lets through.
#include "fuzz.h"

#include "uws/websocket/handshake.h"
#include "uws/http/head.h"

#include <algorithm>
#include <string>

using namespace uwserve;

// "/" may be a constant: what an absolute target without a path means.
static bool inside(const std::string &whole, std::string_view part) {
    return part.empty() || part == "/" ||
           (part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size());
}

static void check_accepted(const HttpHead &head) {
    CHECK(is_token(head.method));
    CHECK(inside(head.bytes, head.method) && inside(head.bytes, head.target) && inside(head.bytes, head.host));
    CHECK(!head.target.empty() && head.target.size() <= kMaxTargetBytes);
    CHECK(head.target[0] == '/' || (head.target == "*" && head.method == "OPTIONS"));
    for (unsigned char c : head.target) CHECK(c > ' ' && c != 0x7f);
    CHECK(head.fields.size() <= kMaxFields);
    int lengths = 0, hosts = 0;
    for (const HttpField &field : head.fields) {
        CHECK(is_token(field.name));
        CHECK(inside(head.bytes, field.name) && inside(head.bytes, field.value));
        for (char c : field.name) CHECK(c < 'A' || c > 'Z');
        for (unsigned char c : field.value) CHECK((c >= ' ' && c != 0x7f) || c == '\t');
        if (!field.value.empty()) {
            CHECK(field.value.front() != ' ' && field.value.front() != '\t');
            CHECK(field.value.back() != ' ' && field.value.back() != '\t');
        }
        lengths += field.name == "content-length";
        hosts += field.name == "host";
        CHECK(field.name != "transfer-encoding");  // the classic second opinion on where a body ends
    }
    CHECK(lengths <= 1);
    CHECK(head.is_http10 ? hosts <= 1 : hosts == 1);
    if (!lengths) CHECK_EQ(head.content_length, 0);
    const Handshake handshake = read_handshake(head);
    if (handshake.verdict == Handshake::Verdict::kAcceptable) {
        CHECK_EQ(handshake.key.size(), 24);
        CHECK(head.method == "GET" && !head.is_http10);
        for (std::string_view protocol : handshake.protocols) CHECK(is_token(protocol));
    }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input_t input(data, size);
    const unsigned step = input.byte() + 1;
    const std::string_view received = input.rest();

    const size_t end = find_head_end(received, 0);
    if (end != kMalformedHead) {
        CHECK(end <= received.size());
        CHECK_EQ(end != 0, received.find("\r\n\r\n") != std::string_view::npos);
    }
    size_t scanned = 0, found = 0;
    for (size_t have = 0; !found && have < received.size();) {
        have = std::min(have + step, received.size());
        found = find_head_end(received.substr(0, have), scanned);
        scanned = have;
    }
    CHECK_EQ(found, end);
    if (!end || end > kMaxHeadBytes) return 0;  // malformed, too
    CHECK(received.substr(end - 4, 4) == "\r\n\r\n");

    HttpHead head;
    head.bytes = received.substr(0, end);
    const char *why = nullptr;
    const int status = parse_head(head, &why);
    if (status) {
        CHECK(why && *why);
        CHECK(status == 400 || status == 413 || status == 414 || status == 417 || status == 431 || status == 501 ||
              status == 505);
    } else {
        check_accepted(head);
    }
    return 0;
}
