// permessage-deflate on the receiving side (RFC 7692), as the frame parser needs it.
#pragma once

#include <libusockets.h>

#include <cstddef>
#include <string_view>

namespace uwserve {

enum class Inflated { kOk, kTooBig, kCorrupt };

// permessage-deflate was negotiated: RSV1 may be set on the first frame of a message.
bool may_compress(us_socket_t *ws);

// `*out` is valid until the loop's next inflate.
Inflated inflate_message(us_socket_t *ws, std::string_view compressed, size_t limit, std::string_view *out);

}  // namespace uwserve
