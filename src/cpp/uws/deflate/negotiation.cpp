#include "uws/deflate/negotiation.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "uws/http/head.h"

namespace uwserve {

namespace {

using Kind = DeflateSide::Kind;

struct Size {
    std::string_view name;
    uint8_t compress_window, compress_memory, decompress_window;
};

// A compressor takes 2^(window+2) + 2^(memory+9) bytes. A decompressor's window is the size itself, or the next
// smaller.
constexpr Size kSizes[] = {
    {"3KB", 9, 1, 11},   {"4KB", 9, 2, 12},   {"8KB", 10, 3, 13},   {"16KB", 11, 4, 14},
    {"32KB", 12, 5, 15}, {"64KB", 13, 6, 15}, {"128KB", 14, 7, 15}, {"256KB", 15, 8, 15},
};

std::optional<DeflateSide> side(std::string_view name, bool compress) {
    if (name == "disable") return DeflateSide{};
    if (name == "shared") return DeflateSide{Kind::kShared, 15, 8};
    if (name == "dedicated") name = "256KB";
    for (const Size &size : kSizes) {
        if (size.name != name) continue;
        return DeflateSide{Kind::kDedicated, compress ? size.compress_window : size.decompress_window,
                           size.compress_memory};
    }
    return std::nullopt;
}

// Calls f(part) for each part of `text` between separators outside of quoted strings, without the spaces around it.
template <typename F>
void split(std::string_view text, char separator, F f) {
    bool quoted = false;
    size_t start = 0;
    for (size_t i = 0; i <= text.size(); i++) {
        if (i == text.size() || (text[i] == separator && !quoted)) {
            f(trimmed(text.substr(start, i - start)));
            start = i + 1;
        } else if (text[i] == '"') {
            quoted = !quoted;
        } else if (text[i] == '\\' && quoted && i + 1 < text.size()) {
            i++;
        }
    }
}

// The token that `text` is, or that it is once unquoted; "" if it is neither.
std::string read_value(std::string_view text) {
    std::string value(text);
    if (text.size() >= 2 && text.front() == '"') {
        value.clear();
        size_t i = 1;
        for (; i < text.size() && text[i] != '"'; i++) {
            if (text[i] == '\\' && i + 1 < text.size()) i++;
            value.push_back(text[i]);
        }
        if (i + 1 != text.size()) return {};
    }
    return is_token(value) ? value : std::string();
}

struct Offer {
    bool server_no_context = false, client_no_context = false, client_window_offered = false;
    unsigned server_window = 0, client_window = 0;  // 0: not given
};

// 8..15, as RFC 7692 7.1.2 writes them: decimal, no leading zero. 0 for anything else.
unsigned window_bits(std::string_view value) {
    if (value.size() > 2 || value.starts_with('0')) return 0;
    unsigned bits = 0;
    auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), bits);
    return error == std::errc() && end == value.data() + value.size() && bits >= 8 && bits <= 15 ? bits : 0;
}

// False: the parameter is malformed, unknown or repeated, or its value is bad. Such an offer is declined (RFC 7692
// 7.1).
bool read_parameter(std::string_view text, Offer *offer) {
    const size_t equals = text.find('=');
    const bool has_value = equals != std::string_view::npos;
    const std::string_view name = trimmed(text.substr(0, equals));
    const std::string value = has_value ? read_value(trimmed(text.substr(equals + 1))) : std::string();
    if (name == "server_no_context_takeover") return !has_value && !std::exchange(offer->server_no_context, true);
    if (name == "client_no_context_takeover") return !has_value && !std::exchange(offer->client_no_context, true);
    if (name == "server_max_window_bits") return !offer->server_window && (offer->server_window = window_bits(value));
    if (name != "client_max_window_bits" || std::exchange(offer->client_window_offered, true)) return false;
    return !has_value || (offer->client_window = window_bits(value));
}

// One element of extension-list = 1#(extension-token *( ";" extension-param )). Nothing: it is no offer to accept.
std::optional<Offer> read_offer(std::string_view element) {
    Offer offer;
    bool is_first = true, valid = true;
    split(element, ';', [&](std::string_view part) {
        valid = valid && (std::exchange(is_first, false) ? part == "permessage-deflate" : read_parameter(part, &offer));
    });
    return valid ? std::optional(offer) : std::nullopt;
}

// The direction from client to server: adds the server's demands to the answer.
void agree_on_receiving(const Offer &offer, const DeflateSide &side, ExtensionAnswer *answer) {
    unsigned window = std::min<unsigned>(side.window, offer.client_window ? offer.client_window : 15);
    // A client that does not let the server limit its window is asked to compress without context.
    bool no_context =
        side.kind != Kind::kDedicated || offer.client_no_context || (window < 15 && !offer.client_window_offered);
    if (no_context) {
        answer->field += "; client_no_context_takeover";
        return;
    }
    answer->agreed.receive_window = static_cast<uint8_t>(window);
    if (window < 15) answer->field += "; client_max_window_bits=" + std::to_string(window);
}

// The direction from server to client. False: the server cannot meet the client's demands.
bool agree_on_sending(const Offer &offer, const DeflateSide &side, ExtensionAnswer *answer) {
    Negotiated &agreed = answer->agreed;
    unsigned limit = offer.server_window ? offer.server_window : 15;
    switch (side.kind) {
    case Kind::kDisabled:  // meets any limit
        answer->field += "; server_no_context_takeover";
        break;
    case Kind::kShared:
        if (limit < 15) return false;  // all connections share one window
        answer->field += "; server_no_context_takeover";
        agreed.send_window = 15;
        break;
    case Kind::kDedicated:
        if (offer.server_no_context) {
            answer->field += "; server_no_context_takeover";
        } else {
            limit = std::min<unsigned>(limit, side.window);
            agreed.send_memory = side.memory;
        }
        agreed.send_window = static_cast<uint8_t>(limit);
        break;
    }
    if (limit < 15 || offer.server_window) answer->field += "; server_max_window_bits=" + std::to_string(limit);
    return true;
}

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

// Whether `agent` has `version`, followed by 0, 1, 2 or 3.
bool is_before_fourth(std::string_view agent, std::string_view version) {
    const size_t at = agent.find(version);
    if (at == std::string_view::npos) return false;
    const std::string_view minor = agent.substr(at + version.size());
    return !minor.empty() && minor[0] >= '0' && minor[0] <= '3' &&
           (minor.size() == 1 || minor[1] < '0' || minor[1] > '9');
}

// Apple's NSURLSession, which WebKit uses, agrees to client_no_context_takeover in iOS 15.0 to 15.3 and macOS 12.0 to
// 12.2 but keeps its context, so its messages cannot be inflated. On iOS, every browser and web view is WebKit. On
// macOS, of the browsers only Safari is; a web view there does not name its version. WebKit elsewhere has another
// network layer.
bool is_broken_apple(std::string_view agent) {
    if (contains(agent, " like Mac OS X")) return is_before_fourth(agent, " OS 15_");
    if (contains(agent, "(Macintosh")) return contains(agent, " Safari/") && is_before_fourth(agent, " Version/15.");
    return contains(agent, "CFNetwork/") && is_before_fourth(agent, " Darwin/21.");
}

// The answer to one offer; inactive: the offer is declined.
ExtensionAnswer answer_to(std::string_view element, const DeflateOptions &options) {
    const std::optional<Offer> offer = read_offer(element);
    if (!offer) return {};
    ExtensionAnswer answer{"permessage-deflate", {}};
    agree_on_receiving(*offer, options.decompress, &answer);
    answer.agreed.active = agree_on_sending(*offer, options.compress, &answer);
    return answer.agreed.active ? answer : ExtensionAnswer();
}

}  // namespace

std::optional<DeflateSide> compress_side(std::string_view name) { return side(name, true); }
std::optional<DeflateSide> decompress_side(std::string_view name) { return side(name, false); }

ExtensionAnswer negotiate_extensions(const HttpHead &head, const DeflateOptions &options) {
    if (!options.enabled() || is_broken_apple(head.field("user-agent"))) return {};
    ExtensionAnswer answer;
    for (const HttpField &field : head.fields) {
        if (field.name != "sec-websocket-extensions") continue;
        split(field.value, ',', [&](std::string_view element) {
            if (!answer.agreed.active) answer = answer_to(element, options);
        });
    }
    return answer;
}

}  // namespace uwserve
