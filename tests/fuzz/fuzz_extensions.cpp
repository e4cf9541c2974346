// Negotiation of permessage-deflate. Input: a byte for the server's setting, then the values of Sec-WebSocket-Extensions,
// one a line. Promises: what is agreed lies within what the server is willing to do, and the answer is one that a client
// that made the offer may get (RFC 7692 section 7.1): known parameters, none twice, only what the offer allows.
#include "fuzz.h"

#include "uws/http/head.h"
#include "uws/deflate/negotiation.h"

#include <set>
#include <string>

using namespace uwserve;

static int bits_of(std::string_view value) {
    CHECK(!value.empty() && value.size() <= 2);
    int bits = 0;
    for (char c : value) {
        CHECK(c >= '0' && c <= '9');
        bits = bits * 10 + (c - '0');
    }
    CHECK(bits >= 8 && bits <= 15);
    return bits;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static constexpr const char *names[] = {"disable", "shared", "dedicated", "3KB",   "4KB",  "8KB",
                                            "16KB",    "32KB",   "64KB",      "128KB", "256KB"};
    input_t input(data, size);
    const unsigned setting = input.byte();
    DeflateOptions options;
    options.compress = *compress_side(names[setting % 11]);
    options.decompress = *decompress_side(names[setting / 11 % 11]);

    HttpHead head;
    head.bytes = "GET / HTTP/1.1\r\nhost: x\r\n";
    bool offered = false;
    for (std::string_view rest = input.rest(); !rest.empty();) {
        const std::string_view line = rest.substr(0, rest.find('\n'));
        rest.remove_prefix(std::min(line.size() + 1, rest.size()));
        head.bytes += "sec-websocket-extensions: ";
        head.bytes.append(line) += "\r\n";
        offered = offered || line.find("permessage-deflate") != std::string_view::npos;
    }
    head.bytes += "\r\n";
    const char *why;
    if (head.bytes.size() > kMaxHeadBytes || parse_head(head, &why) != 0) return 0;

    const ExtensionAnswer answer = negotiate_extensions(head, options);
    CHECK_EQ(answer.agreed.active, !answer.field.empty());
    if (!answer.agreed.active) {
        CHECK_EQ(answer.agreed.send_window, 0);
        return 0;
    }
    CHECK(options.enabled());
    CHECK(offered || head.bytes.find('\\') != std::string::npos);
    std::set<std::string> seen;
    std::string_view rest = answer.field;
    CHECK(rest.starts_with("permessage-deflate"));
    rest.remove_prefix(18);
    while (!rest.empty()) {
        CHECK(rest.starts_with("; "));
        rest.remove_prefix(2);
        std::string_view parameter = rest.substr(0, rest.find(';'));
        rest.remove_prefix(parameter.size());
        const size_t equals = parameter.find('=');
        const std::string name(parameter.substr(0, equals));
        CHECK(seen.insert(name).second);
        // The only one that a server may not bring up itself (section 7.1.2.2).
        CHECK(name != "client_max_window_bits" || head.bytes.find(name) != std::string::npos);
        if (name.ends_with("max_window_bits")) {
            const int bits = bits_of(parameter.substr(equals + 1));
            if (name == "server_max_window_bits") CHECK(answer.agreed.send_window <= bits);
            if (name == "client_max_window_bits" && answer.agreed.receive_window) {
                CHECK(answer.agreed.receive_window >= bits);
            }
        } else {
            CHECK(name == "server_no_context_takeover" || name == "client_no_context_takeover");
            CHECK_EQ(equals, std::string_view::npos);
        }
    }
    const Negotiated &agreed = answer.agreed;
    CHECK(agreed.send_window == 0 || (agreed.send_window >= 8 && agreed.send_window <= 15));
    CHECK(agreed.receive_window == 0 || (agreed.receive_window >= 8 && agreed.receive_window <= 15));
    if (options.compress.kind == DeflateSide::Kind::kDisabled) CHECK_EQ(agreed.send_window, 0);
    if (seen.count("server_no_context_takeover")) CHECK_EQ(agreed.send_memory, 0);
    // A client that keeps its context needs ours to be kept.
    CHECK(agreed.receive_window || seen.count("client_no_context_takeover"));
    return 0;
}
