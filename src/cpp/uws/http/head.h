// A strict parser of HTTP/1 request heads (RFC 9112 sections 2-6, RFC 9110 section 5): pure functions over bytes. It
// accepts less than the RFCs allow a lenient server: no obs-fold, no white space around a field name, no bare CR or LF,
// no repeated Content-Length, no Transfer-Encoding.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace uwserve {

constexpr size_t kMaxHeadBytes = 16 * 1024;
constexpr size_t kMaxTargetBytes = 8 * 1024;
constexpr size_t kMaxFields = 100;
constexpr size_t kMaxMethodBytes = 64;

struct HttpField {
    std::string_view name;  // lower-cased
    std::string_view value;
};

struct HttpHead {
    std::string bytes;  // the head as received, names lower-cased; everything below points into it
    std::string_view method;
    std::string_view target;  // origin form; "*" for OPTIONS
    std::string_view host;  // of an absolute-form target, else of Host; "" for HTTP/1.0 without either
    std::vector<HttpField> fields;
    uint64_t content_length = 0;
    bool is_http10 = false;
    bool close = false;  // the connection ends after the response
    bool expects_continue = false;

    HttpHead() = default;
    HttpHead(const HttpHead &) = delete;
    HttpHead &operator=(const HttpHead &) = delete;

    // The first field of that lower-case name; `count` receives their number.
    std::string_view field(std::string_view name, int *count = nullptr) const;
};

// The length of the head with its final CRLFCRLF; 0 when that has not arrived; kMalformedHead as soon as a line ends
// without CR, because nothing that follows could complete the head. The search begins at `from`, the size of `received`
// in an earlier call.
size_t find_head_end(std::string_view received, size_t from);
constexpr size_t kMalformedHead = ~size_t{0};

// Whether a head that is too large is so because of its request target.
bool is_target_too_long(std::string_view received);

// Parses head.bytes, which must end with CRLFCRLF. 0, or the status to refuse it with: 400, 413, 414, 417, 431, 501, 505.
// `why` then names the broken rule.
int parse_head(HttpHead &head, const char **why);

// RFC 9110 5.6.2 token characters.
bool is_token(std::string_view text);
// Without spaces and tabs at both ends.
std::string_view trimmed(std::string_view text);
// Calls f for every non-empty element of a comma-separated list, trimmed.
template <typename F>
void for_each_element(std::string_view list, F f) {
    while (!list.empty()) {
        size_t comma = list.find(',');
        std::string_view element = trimmed(list.substr(0, comma));
        list = comma == std::string_view::npos ? std::string_view() : list.substr(comma + 1);
        if (!element.empty()) f(element);
    }
}
bool equals_ignoring_case(std::string_view a, std::string_view lower_case);

}  // namespace uwserve
