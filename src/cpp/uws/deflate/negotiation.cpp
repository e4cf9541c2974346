#include "uws/deflate/negotiation.h"

#include <algorithm>
#include <charconv>
#include <vector>

#include "uws/http/head.h"

namespace uwserve {

namespace {

using Kind = DeflateSide::Kind;

struct Size {
    std::string_view name;
    uint8_t compress_window, compress_memory, decompress_window;
};

// A compressor takes 2^(window+2) + 2^(memory+9) bytes; a decompressor's window is the size itself, or what fits into it.
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

// --- the list ---

struct Param {
    std::string_view name;
    std::optional<std::string> value;
};

struct Extension {
    std::string_view name;
    std::vector<Param> params;
    bool well_formed = true;
};

// extension-list = 1#(extension-token *( ";" extension-param )), with the empty elements that lists may have.
class ListReader {
  public:
    explicit ListReader(std::string_view text) : rest_(text) {}

    // The next element that is not empty; one that breaks the grammar is read to its end and marked.
    bool next(Extension *extension) {
        skip_space();
        while (take(',')) skip_space();
        if (rest_.empty()) return false;
        *extension = Extension();
        extension->well_formed = read(extension);
        if (!extension->well_formed) skip_element();
        return true;
    }

  private:
    bool read(Extension *extension) {
        extension->name = token();
        if (extension->name.empty()) return false;
        while (true) {
            skip_space();
            if (rest_.empty() || rest_.front() == ',') return true;
            if (!take(';')) return false;
            skip_space();
            Param param;
            param.name = token();
            if (param.name.empty()) return false;
            skip_space();
            if (take('=')) {
                skip_space();
                param.value.emplace();
                if (!value(&*param.value)) return false;
            }
            extension->params.push_back(std::move(param));
        }
    }

    std::string_view token() {
        size_t length = 0;
        while (length < rest_.size() && is_token(rest_.substr(length, 1))) length++;
        std::string_view found = rest_.substr(0, length);
        rest_.remove_prefix(length);
        return found;
    }

    // A token, or a quoted string that is one once unquoted.
    bool value(std::string *out) {
        if (!take('"')) {
            *out = token();
            return !out->empty();
        }
        while (!rest_.empty()) {
            char c = rest_.front();
            rest_.remove_prefix(1);
            if (c == '"') return is_token(*out);
            if (c == '\\') {
                if (rest_.empty()) return false;
                c = rest_.front();
                rest_.remove_prefix(1);
            }
            out->push_back(c);
        }
        return false;
    }

    // To the comma that ends the element; commas in quotes do not.
    void skip_element() {
        bool quoted = false;
        while (!rest_.empty() && (quoted || rest_.front() != ',')) {
            if (quoted && rest_.front() == '\\' && rest_.size() > 1) {
                rest_.remove_prefix(1);
            } else if (rest_.front() == '"') {
                quoted = !quoted;
            }
            rest_.remove_prefix(1);
        }
    }

    bool take(char c) {
        if (rest_.empty() || rest_.front() != c) return false;
        rest_.remove_prefix(1);
        return true;
    }
    void skip_space() {
        while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\t')) rest_.remove_prefix(1);
    }

    std::string_view rest_;
};

// --- one offer ---

struct Offer {
    bool server_no_context = false, client_no_context = false, client_window_offered = false;
    unsigned server_window = 0, client_window = 0;  // 0: not given
};

// 8..15, as RFC 7692 7.1.2 writes them: decimal, no leading zero. 0 for anything else.
unsigned window_bits(const std::optional<std::string> &value) {
    if (!value || value->empty() || value->size() > 2 || value->front() == '0') return 0;
    unsigned bits = 0;
    auto [end, error] = std::from_chars(value->data(), value->data() + value->size(), bits);
    if (error != std::errc() || end != value->data() + value->size()) return 0;
    return bits >= 8 && bits <= 15 ? bits : 0;
}

// RFC 7692 7.1: an offer with an unknown or repeated parameter, or one with a bad value, must be declined.
bool read_offer(const Extension &extension, Offer *offer) {
    for (const Param &param : extension.params) {
        if (param.name == "server_no_context_takeover") {
            if (param.value || offer->server_no_context) return false;
            offer->server_no_context = true;
        } else if (param.name == "client_no_context_takeover") {
            if (param.value || offer->client_no_context) return false;
            offer->client_no_context = true;
        } else if (param.name == "server_max_window_bits") {
            if (offer->server_window || !(offer->server_window = window_bits(param.value))) return false;
        } else if (param.name == "client_max_window_bits") {
            if (offer->client_window_offered) return false;
            offer->client_window_offered = true;
            if (param.value && !(offer->client_window = window_bits(param.value))) return false;
        } else {
            return false;
        }
    }
    return true;
}

// The direction client to server: what is asked of the client.
void agree_on_receiving(const Offer &offer, const DeflateSide &side, ExtensionAnswer *answer) {
    unsigned window = std::min<unsigned>(side.window, offer.client_window ? offer.client_window : 15);
    // A client that cannot be asked for a smaller window is asked to keep none.
    bool no_context =
        side.kind != Kind::kDedicated || offer.client_no_context || (window < 15 && !offer.client_window_offered);
    if (no_context) {
        answer->field += "; client_no_context_takeover";
        return;
    }
    answer->agreed.receive_window = static_cast<uint8_t>(window);
    if (window < 15) answer->field += "; client_max_window_bits=" + std::to_string(window);
}

// The direction server to client. False: what the client demands cannot be done.
bool agree_on_sending(const Offer &offer, const DeflateSide &side, ExtensionAnswer *answer) {
    Negotiated &agreed = answer->agreed;
    unsigned limit = offer.server_window ? offer.server_window : 15;
    switch (side.kind) {
    case Kind::kDisabled:  // keeps to any limit
        answer->field += "; server_no_context_takeover";
        break;
    case Kind::kShared:
        if (limit < 15) return false;  // one window for all
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

// Whether `version` is there, with 0, 1, 2 or 3 behind it.
bool is_before_fourth(std::string_view agent, std::string_view version) {
    const size_t at = agent.find(version);
    if (at == std::string_view::npos) return false;
    const std::string_view minor = agent.substr(at + version.size());
    return !minor.empty() && minor[0] >= '0' && minor[0] <= '3' &&
           (minor.size() == 1 || minor[1] < '0' || minor[1] > '9');
}

// Apple's NSURLSession, which WebKit uses, does not do what client_no_context_takeover says in iOS 15.0 to 15.3 and macOS
// 12.0 to 12.2, and then cannot be talked to. On iOS every browser and every web view is WebKit. On macOS only Safari is,
// of the browsers; a web view there does not say its version, and a WebKit of other systems has another network layer.
bool is_broken_apple(std::string_view agent) {
    if (contains(agent, " like Mac OS X")) return is_before_fourth(agent, " OS 15_");
    if (contains(agent, "(Macintosh")) return contains(agent, " Safari/") && is_before_fourth(agent, " Version/15.");
    return contains(agent, "CFNetwork/") && is_before_fourth(agent, " Darwin/21.");
}

}  // namespace

std::optional<DeflateSide> compress_side(std::string_view name) { return side(name, true); }
std::optional<DeflateSide> decompress_side(std::string_view name) { return side(name, false); }

ExtensionAnswer negotiate_extensions(const HttpHead &head, const DeflateOptions &options) {
    if (!options.enabled() || is_broken_apple(head.field("user-agent"))) return {};
    for (const HttpField &field : head.fields) {
        if (field.name != "sec-websocket-extensions") continue;
        ListReader list(field.value);
        for (Extension extension; list.next(&extension);) {
            if (!extension.well_formed || extension.name != "permessage-deflate") continue;
            Offer offer;
            if (!read_offer(extension, &offer)) continue;
            ExtensionAnswer answer;
            answer.field = "permessage-deflate";
            answer.agreed.active = true;
            agree_on_receiving(offer, options.decompress, &answer);
            if (agree_on_sending(offer, options.compress, &answer)) return answer;
        }
    }
    return {};
}

}  // namespace uwserve
