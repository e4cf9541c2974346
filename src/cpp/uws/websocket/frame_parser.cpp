#include "uws/websocket/frame_parser.h"

namespace uwserve {

namespace {

constexpr unsigned kFin = 0x80, kRsv1 = 0x40, kRsv23 = 0x30, kOpcode = 0x0F, kMask = 0x80;

const Violation *check_first(const FrameState &state, unsigned first, bool may_compress) {
    const unsigned opcode = first & kOpcode;
    if (first & kRsv23) return &kReservedBits;
    if (opcode > 10 || (opcode > 2 && opcode < 8)) return &kReservedOpcode;
    if (opcode >= 8) {
        if (first & kRsv1) return &kCompressedControl;
        return first & kFin ? nullptr : &kFragmentedControl;
    }
    if (opcode == 0) {
        if (!state.in_message) return &kStrayContinuation;
        return first & kRsv1 ? &kCompressedContinuation : nullptr;
    }
    if (state.in_message) return &kInterruptedMessage;
    return (first & kRsv1) && !may_compress ? &kCompressedUnasked : nullptr;
}

// The first `known` bytes of an extended length of `width` bytes have arrived: the length is in [low, high].
const Violation *check_length(const unsigned char *bytes, unsigned width, unsigned known, uint64_t room) {
    if (width == 8 && known && bytes[0] & 0x80) return &kNegativeLength;
    uint64_t low = 0;
    for (unsigned i = 0; i < width; i++) low = low << 8 | (i < known ? bytes[i] : 0u);
    const unsigned missing = 8 * (width - known);
    const uint64_t high = missing == 64 ? ~0ull : low | ((1ull << missing) - 1);
    if (high < (width == 2 ? 126u : 65536u)) return &kLongLength;
    return low > room ? &kTooBig : nullptr;
}

}  // namespace

const Violation *check_header(const FrameState &state, const unsigned char *header, size_t size, uint64_t limit,
                              bool may_compress) {
    if (const Violation *violation = check_first(state, header[0], may_compress)) return violation;
    if (size < 2) return nullptr;
    if (!(header[1] & kMask)) return &kUnmasked;
    const unsigned length = header[1] & 127;
    if ((header[0] & kOpcode) >= 8) return length > kMaxControlPayload ? &kLongControl : nullptr;
    // The message's earlier frames count towards the limit.
    const bool is_compressed = (header[0] & kRsv1) || (state.in_message && state.compressed);
    const uint64_t most = is_compressed ? compressed_limit(limit) : limit;
    const uint64_t used = state.in_message ? state.announced : 0;
    const uint64_t room = most > used ? most - used : 0;
    if (length < 126) return length > room ? &kTooBig : nullptr;
    const unsigned width = length == 126 ? 2 : 8;
    return check_length(header + 2, width, static_cast<unsigned>(std::min<size_t>(size - 2, width)), room);
}

uint64_t frame_payload_size(const unsigned char *header) {
    const unsigned length = header[1] & 127;
    if (length < 126) return length;
    uint64_t size = 0;
    for (unsigned i = 0; i < (length == 126 ? 2u : 8u); i++) size = size << 8 | header[2 + i];
    return size;
}

const Violation *read_close_payload(std::string_view payload, uint16_t *code, std::string_view *reason) {
    *code = 1005;
    *reason = {};
    if (payload.empty()) return nullptr;
    if (payload.size() == 1) return &kOneByteClose;
    *code = static_cast<uint16_t>(static_cast<unsigned char>(payload[0]) << 8 | static_cast<unsigned char>(payload[1]));
    if (!is_close_code(*code)) return &kBadCloseCode;
    *reason = payload.substr(2);
    return is_utf8(*reason) ? nullptr : &kBadCloseReason;
}

}  // namespace uwserve
