// Writes the responses of HTTP connections: whole ones, streamed ones and refusals. The upgrade has a file of its own
// (http/upgrade_response.h).
//
// uWebSockets is never told that a connection ends with a response, because it ignores that in some cases (defects H6
// and H13): "Connection: close" is written here, and the connection ends when the last byte has left. Bodies larger
// than the cork buffer go through tryEnd() and onWritable(), so they are neither copied nor lost (S2). The chunks of a
// streamed body are written here, too: uWebSockets sends the end of a head, and of a chunk, only with the next chunk,
// and a client may have to wait for that.
//
// Loop thread only. The request must be pending, and no response to it begun.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

namespace uwserve {

// Keeps the bytes of a response alive until they are sent.
struct BodyOwner {
    virtual ~BodyOwner() = default;
};

// The source of a streamed body. Destroyed when the stream has ended, for whatever reason.
struct BodyStream {
    virtual ~BodyStream() = default;
    enum class Next {
        kPiece,
        kLater,  // none yet: pump_stream() is called when there is one
        kEnd,
        kFailed,
    };
    virtual Next next(std::string_view &piece) = 0;  // the piece is valid until the next call
    virtual void no_memory() = 0;  // for sending the last piece: the stream ends
    virtual void wrong_length(bool too_long) = 0;  // not the declared length: the stream ends
    virtual void *held() const = 0;  // the upper layer's object, for its garbage collector
};

struct HttpConnection;
using Fields = std::span<const std::pair<std::string_view, std::string_view>>;

// `declared`: the Content-Length of a body that is not given. It is used for HEAD, whose body need not be known.
void send_response(HttpConnection &conn, std::string_view status, Fields fields, std::optional<std::string_view> body,
                   std::unique_ptr<BodyOwner> owner, std::optional<uint64_t> declared = std::nullopt);

// With a declared length, the body is sent without chunks and must have exactly that length.
void stream_response(HttpConnection &conn, std::string_view status, Fields fields, std::unique_ptr<BodyStream> stream,
                     std::optional<uint64_t> declared = std::nullopt);
// A stream that had no piece (kLater) has one now.
void pump_stream(HttpConnection &conn);
// A stream has ended in another way than by next().
void end_stream(HttpConnection &conn, bool complete);

// Answers a malformed head, one that is too large, and the like, with one small error response that ends the
// connection. Returns false: no request was taken.
bool refuse_request(HttpConnection &conn, int status, std::string_view why);
constexpr std::string_view kShortOfMemoryText = "server is short of memory";

}  // namespace uwserve
