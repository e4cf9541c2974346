// The end of a DEFLATE block (RFC 1951 section 3.2), for compressors that can only make whole streams.
//
// Such a stream ends with a final block. RFC 7692 allows that in a message, but clients that keep one decompressor for
// all messages stop at it: the block must be made an ordinary one, and what follows it must begin at the very bit where
// it ends, which is marked nowhere. Pure functions over bytes; any thread.
#pragma once

#include <cstddef>
#include <optional>

namespace uwserve {

// Turns the `length` bytes at `stream`, a DEFLATE stream whose last byte is filled up with zeros, into what a message
// of permessage-deflate is: no final block, and 00 00 ff ff completes it to an empty stored block. Returns the new
// length, which may be one more: there must be room for it. Nothing, and nothing changed: the stream has several
// blocks, or the end of its only one cannot be known without decoding it.
std::optional<size_t> open_stream(char *stream, size_t length);

}  // namespace uwserve
