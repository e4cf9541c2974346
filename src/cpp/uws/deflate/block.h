// The end of a DEFLATE block (RFC 1951 section 3.2), for compressors that can only make whole streams.
//
// Such a stream ends with a final block. RFC 7692 allows one in a message, but clients that keep one decompressor for
// all messages stop at it. So the block is made an ordinary one, and the next must begin at the very bit where it ends.
// The stream does not mark this bit. Pure functions over bytes; any thread.
#pragma once

#include <cstddef>
#include <optional>

namespace uwserve {

// Turns a DEFLATE stream, whose last byte is filled up with zeros, into a message of permessage-deflate: without a
// final block, and 00 00 ff ff completes it to an empty stored block. Returns the new length, which may be larger by
// one: there must be room for it. Nothing: the stream has several blocks, or the end of its only one cannot be known
// without decoding it; the stream is unchanged.
std::optional<size_t> open_stream(char *stream, size_t length);

}  // namespace uwserve
