#include "uws/http/head.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "uws/http/authority.h"

namespace uwserve {

namespace {

enum : uint8_t { kToken = 1, kValue = 2, kTarget = 4 };

// The character classes of the grammar in one table: each byte costs one load.
constexpr std::array<uint8_t, 256> make_classes() {
    std::array<uint8_t, 256> table{};
    for (int c = 0; c < 256; c++) {
        bool alnum = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        bool vchar = c > 0x20 && c < 0x7f;
        uint8_t bits = 0;
        if (vchar || c >= 0x80 || c == ' ' || c == '\t') bits |= kValue;
        if (vchar && c != '#') bits |= kTarget;
        if (alnum) bits |= kToken;
        table[static_cast<size_t>(c)] = bits;
    }
    for (char c : std::string_view("!#$%&'*+-.^_`|~")) table[static_cast<unsigned char>(c)] |= kToken;
    return table;
}
constexpr std::array<uint8_t, 256> kClasses = make_classes();

bool all_of_class(std::string_view text, uint8_t bits) {
    return std::all_of(text.begin(), text.end(),
                       [bits](char c) { return kClasses[static_cast<unsigned char>(c)] & bits; });
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

// Takes the line up to CRLF from `rest`. The head ends with CRLF, so there always is such a line.
std::string_view take_line(std::string_view &rest) {
    size_t end = rest.find("\r\n");
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end + 2);
    return line;
}

struct Refusal {
    int status;
    const char *why;
};
constexpr Refusal kAccepted{0, nullptr};

Refusal parse_request_line(HttpHead &head, std::string_view line) {
    size_t first = line.find(' ');
    size_t last = line.rfind(' ');
    if (first == std::string_view::npos || last == first) return {400, "malformed request line"};
    head.method = line.substr(0, first);
    head.target = line.substr(first + 1, last - first - 1);
    std::string_view version = line.substr(last + 1);
    if (!is_token(head.method)) return {400, "malformed method"};
    if (head.method.size() > kMaxMethodBytes) return {501, "method not implemented"};
    if (version.size() != 8 || version.substr(0, 5) != "HTTP/" || version[6] != '.')
        return {400, "malformed HTTP version"};
    if (version != "HTTP/1.1" && version != "HTTP/1.0") return {505, "HTTP version not supported"};
    head.is_http10 = version.back() == '0';
    if (head.target.size() > kMaxTargetBytes) return {414, "request target too long"};
    if (head.target.empty() || !all_of_class(head.target, kTarget)) return {400, "malformed request target"};
    return kAccepted;
}

// "http://host?query" has no path: "/" goes in front of the query, where a character of "://" makes room for the host.
void insert_path(HttpHead &head, size_t query) {
    char *bytes = head.bytes.data() + (head.host.data() - head.bytes.data());
    memmove(bytes - 1, bytes, head.host.size());
    bytes[head.host.size() - 1] = '/';
    head.host = {bytes - 1, head.host.size()};
    head.target = head.target.substr(query - 1);
}

// The schemes of requests and of WebSocket handshakes (RFC 6455 3).
bool is_scheme(std::string_view name) {
    static constexpr std::array<std::string_view, 4> known = {"http", "https", "ws", "wss"};
    return std::any_of(known.begin(), known.end(),
                       [name](std::string_view scheme) { return equals_ignoring_case(name, scheme); });
}

// RFC 9112 3.2: origin form, absolute form (its authority replaces Host), or asterisk form for OPTIONS. Authority form is
// for CONNECT, which opens a tunnel and which no origin server must support.
Refusal resolve_target(HttpHead &head) {
    if (head.method == "CONNECT") return {501, "CONNECT not implemented"};
    if (head.target.front() == '/') return kAccepted;
    if (head.target == "*" && head.method == "OPTIONS") return kAccepted;
    size_t scheme = head.target.find("://");
    if (scheme != std::string_view::npos && is_scheme(head.target.substr(0, scheme))) {
        size_t begin = scheme + 3, end = std::min(head.target.find_first_of("/?", begin), head.target.size());
        head.host = head.target.substr(begin, end - begin);
        if (!is_authority(head.host)) return {400, "malformed authority in the request target"};
        if (end == head.target.size()) {
            head.target = "/";
        } else if (head.target[end] == '?') {
            insert_path(head, end);
        } else {
            head.target.remove_prefix(end);
        }
        return kAccepted;
    }
    return {400, "request target is neither a path nor an http or ws URL"};
}

Refusal parse_fields(HttpHead &head, std::string_view rest) {
    head.fields.reserve(16);
    while (rest != "\r\n") {
        std::string_view line = take_line(rest);
        if (head.fields.size() == kMaxFields) return {431, "too many header fields"};
        size_t colon = line.find(':');
        if (colon == std::string_view::npos) return {400, "header field without a colon"};
        std::string_view name = line.substr(0, colon), value = trimmed(line.substr(colon + 1));
        if (!is_token(name)) return {400, "malformed header field name"};
        if (!all_of_class(value, kValue)) return {400, "control character in a header field"};
        char *begin = head.bytes.data() + (name.data() - head.bytes.data());
        std::transform(begin, begin + name.size(), begin, lower);
        head.fields.push_back({name, value});
    }
    return kAccepted;
}

Refusal parse_content_length(HttpHead &head, std::string_view value) {
    if (value.empty() || value.find_first_not_of("0123456789") != std::string_view::npos)
        return {400, "malformed Content-Length"};
    if (value.size() > 18) return {413, "Content-Length too large"};
    for (char c : value) head.content_length = head.content_length * 10 + static_cast<uint64_t>(c - '0');
    return kAccepted;
}

// Single-valued fields that identify the client or the type of the body. If there were two, they would be joined to a
// value that was never sent, or a proxy could use the first and the application the last (RFC 9110 5.3).
bool is_single(std::string_view name) {
    return name == "authorization" || name == "content-type" || name == "origin" || name == "proxy-authorization";
}

// The fields that decide where this message ends and whether the connection stays open. Fields that two parsers could
// read differently are refused, because request smuggling depends on them (RFC 9112 section 11.2).
Refusal interpret_fields(HttpHead &head) {
    int hosts = 0, lengths = 0, encodings = 0;
    std::string_view host = head.field("host", &hosts);
    std::string_view length = head.field("content-length", &lengths);
    head.field("transfer-encoding", &encodings);
    if (hosts > 1) return {400, "more than one Host field"};
    if (hosts == 0 && !head.is_http10) return {400, "no Host field"};
    if (!host.empty() && !is_authority(host)) return {400, "malformed Host field"};
    if (head.host.empty()) {
        head.host = host;
    } else {
        // RFC 9112 3.2.2: with an absolute form, Host is ignored. So that the application uses no other host, it is replaced.
        for (HttpField &field : head.fields) {
            if (field.name == "host") field.value = head.host;
        }
    }
    if (lengths > 1) return {400, "more than one Content-Length field"};
    if (encodings && (lengths || head.is_http10)) return {400, "Transfer-Encoding not allowed here"};
    if (encodings) return {501, "Transfer-Encoding not implemented"};
    if (lengths) {
        if (Refusal refusal = parse_content_length(head, length); refusal.status) return refusal;
    }
    head.close = head.is_http10;
    for (const HttpField &field : head.fields) {
        if (field.name == "connection") {
            for_each_element(field.value,
                             [&](std::string_view token) { head.close |= equals_ignoring_case(token, "close"); });
        } else if (field.name == "expect" && !head.is_http10) {
            if (!equals_ignoring_case(field.value, "100-continue")) return {417, "unknown expectation"};
            head.expects_continue = true;
        } else if (is_single(field.name)) {
            int count = 0;
            head.field(field.name, &count);
            if (count > 1) return {400, "more than one field of a name that may be there once"};
        }
    }
    return kAccepted;
}

}  // namespace

std::string_view HttpHead::field(std::string_view name, int *count) const {
    std::string_view found;
    int n = 0;
    for (const HttpField &field : fields) {
        if (field.name == name && n++ == 0) found = field.value;
    }
    if (count) *count = n;
    return found;
}

// Searches for line feeds only: each must end a line.
size_t find_head_end(std::string_view received, size_t from) {
    constexpr size_t npos = std::string_view::npos;
    for (size_t feed = received.find('\n', from); feed != npos; feed = received.find('\n', feed + 1)) {
        if (feed == 0 || received[feed - 1] != '\r') return kMalformedHead;
        if (feed >= 3 && received[feed - 2] == '\n') return feed + 1;
    }
    return 0;
}

bool is_target_too_long(std::string_view received) {
    std::string_view line = received.substr(0, received.find("\r\n"));
    size_t begin = line.find(' ');
    return begin != std::string_view::npos && line.find(' ', begin + 1) - begin - 1 > kMaxTargetBytes &&
           line.size() > kMaxTargetBytes;
}

int parse_head(HttpHead &head, const char **why) {
    std::string_view rest = head.bytes;
    Refusal refusal = parse_request_line(head, take_line(rest));
    if (!refusal.status) refusal = resolve_target(head);
    if (!refusal.status) refusal = parse_fields(head, rest);
    if (!refusal.status) refusal = interpret_fields(head);
    *why = refusal.why;
    return refusal.status;
}

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
    return text;
}

bool is_token(std::string_view text) { return !text.empty() && all_of_class(text, kToken); }

bool equals_ignoring_case(std::string_view a, std::string_view lower_case) {
    return a.size() == lower_case.size() &&
           std::equal(a.begin(), a.end(), lower_case.begin(), [](char x, char y) { return lower(x) == y; });
}

}  // namespace uwserve
