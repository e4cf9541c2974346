// Compression is not offered by this version, so no frame may be compressed.
#include "ws_deflate.h"

namespace uwserve {

bool may_compress(us_socket_t *) { return false; }

Inflated inflate_message(us_socket_t *, std::string_view, size_t, std::string_view *) { return Inflated::kCorrupt; }

}  // namespace uwserve
