#include "http_head.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace uwserve {

namespace {

enum : uint8_t { kToken = 1, kValue = 2, kTarget = 4, kHost = 8 };

// One table for the character classes of the grammar: a byte costs one load.
constexpr std::array<uint8_t, 256> make_classes() {
    std::array<uint8_t, 256> table{};
    for (int c = 0; c < 256; c++) {
        bool alnum = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        bool vchar = c > 0x20 && c < 0x7f;
        uint8_t bits = 0;
        if (vchar || c >= 0x80 || c == ' ' || c == '\t') bits |= kValue;
        if (vchar && c != '#') bits |= kTarget;
        if (alnum) bits |= kToken | kHost;
        table[static_cast<size_t>(c)] = bits;
    }
    for (char c : std::string_view("!#$%&'*+-.^_`|~")) table[static_cast<unsigned char>(c)] |= kToken;
    for (char c : std::string_view("-._~%!$&'()*+,;=:[]")) table[static_cast<unsigned char>(c)] |= kHost;
    return table;
}
constexpr std::array<uint8_t, 256> kClasses = make_classes();

bool all_of_class(std::string_view text, uint8_t bits) {
    return std::all_of(text.begin(), text.end(),
                       [bits](char c) { return kClasses[static_cast<unsigned char>(c)] & bits; });
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

// Takes the line up to CRLF off `rest`. The head ends with CRLF, so there is always one.
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
    if (version.size() != 8 || version.substr(0, 5) != "HTTP/" || version[6] != '.')
        return {400, "malformed HTTP version"};
    if (version != "HTTP/1.1" && version != "HTTP/1.0") return {505, "HTTP version not supported"};
    head.is_http10 = version.back() == '0';
    if (head.target.size() > kMaxTargetBytes) return {414, "request target too long"};
    if (head.target.empty() || !all_of_class(head.target, kTarget)) return {400, "malformed request target"};
    return kAccepted;
}

// RFC 9112 3.2: origin form, absolute form (its authority replaces Host), asterisk form for OPTIONS.
Refusal resolve_target(HttpHead &head) {
    if (head.target.front() == '/') return kAccepted;
    if (head.target == "*" && head.method == "OPTIONS") return kAccepted;
    size_t scheme = head.target.find("://");
    if (scheme != std::string_view::npos && (equals_ignoring_case(head.target.substr(0, scheme), "http") ||
                                             equals_ignoring_case(head.target.substr(0, scheme), "https"))) {
        std::string_view rest = head.target.substr(scheme + 3);
        size_t path = rest.find_first_of("/?");
        head.host = rest.substr(0, path);
        if (head.host.empty() || !all_of_class(head.host, kHost))
            return {400, "malformed authority in the request target"};
        head.target = path == std::string_view::npos ? std::string_view("/") : rest.substr(path);
        if (head.target.front() == '?') return {400, "malformed request target"};
        return kAccepted;
    }
    return {400, "request target is neither a path nor an http URL"};
}

Refusal parse_fields(HttpHead &head, std::string_view rest) {
    head.fields.reserve(16);
    while (rest != "\r\n") {
        std::string_view line = take_line(rest);
        if (head.fields.size() == kMaxFields) return {431, "too many header fields"};
        size_t colon = line.find(':');
        if (colon == std::string_view::npos) return {400, "header field without a colon"};
        std::string_view name = line.substr(0, colon), value = line.substr(colon + 1);
        if (!is_token(name)) return {400, "malformed header field name"};
        if (!all_of_class(value, kValue)) return {400, "control character in a header field"};
        while (!value.empty() && (value.front() == ' ' || value.front() == '\t')) value.remove_prefix(1);
        while (!value.empty() && (value.back() == ' ' || value.back() == '\t')) value.remove_suffix(1);
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

// The fields that decide where this message ends and what becomes of the connection. Anything that two parsers could
// read differently is refused: that is what request smuggling lives on (RFC 9112 section 11.2).
Refusal interpret_fields(HttpHead &head) {
    int hosts = 0, lengths = 0, encodings = 0;
    std::string_view host = head.field("host", &hosts);
    std::string_view length = head.field("content-length", &lengths);
    head.field("transfer-encoding", &encodings);
    if (hosts > 1) return {400, "more than one Host field"};
    if (hosts == 0 && !head.is_http10) return {400, "no Host field"};
    if (!all_of_class(host, kHost)) return {400, "malformed Host field"};
    if (head.host.empty()) head.host = host;
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

size_t find_head_end(std::string_view received, size_t from) {
    size_t end = received.find("\r\n\r\n", from > 3 ? from - 3 : 0);
    return end == std::string_view::npos ? 0 : end + 4;
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

bool is_token(std::string_view text) { return !text.empty() && all_of_class(text, kToken); }

bool equals_ignoring_case(std::string_view a, std::string_view lower_case) {
    return a.size() == lower_case.size() &&
           std::equal(a.begin(), a.end(), lower_case.begin(), [](char x, char y) { return lower(x) == y; });
}

}  // namespace uwserve
