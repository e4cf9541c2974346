#include "uws/http/response.h"

#include <charconv>

#include "uws/http/connections.h"
#include "uws/http/status.h"
#include "usockets/tcp/read.h"

namespace uwserve {

namespace {

// This much fits into the cork buffer of uWebSockets beside a head of ordinary size.
constexpr size_t kCorkedBodyBytes = 12 * 1024;
// The length of an HTTP date (RFC 9110 5.6.7).
constexpr size_t kDateBytes = 29;
// A stream yields to other connections after this much.
constexpr size_t kPumpBytes = 256 * 1024;
constexpr std::chrono::milliseconds kPumpTime{2};

void write_head(Response *response, std::string_view status, Fields fields, bool close) {
    response->writeStatus(status);
    for (auto [name, value] : fields) response->writeHeader(name, value);
    if (close) response->writeHeader("Connection", "close");
}

bool is_chunked(const HttpConnection &conn) { return !conn.head->is_http10 && !conn.stream_left; }

// As a chunk (RFC 9112 7.1), or unchanged: to HTTP/1.0, and with a declared length.
void send_piece(HttpConnection &conn, std::string_view piece) {
    conn.response->cork([&] {
        if (!is_chunked(conn)) {
            AsyncSocketAccess::write(conn.s, piece);
            return;
        }
        char size[2 * sizeof(size_t) + 2];
        char *end = std::to_chars(size, size + sizeof(size), piece.size(), 16).ptr;
        *end++ = '\r';
        *end++ = '\n';
        AsyncSocketAccess::write(conn.s, {size, end});
        AsyncSocketAccess::write(conn.s, piece);
        AsyncSocketAccess::write(conn.s, "\r\n");
    });
}

}  // namespace

void send_response(HttpConnection &conn, std::string_view status, Fields fields, std::optional<std::string_view> body,
                   std::unique_ptr<BodyOwner> owner, std::optional<uint64_t> declared) {
    or_close(conn.s, [&] {
        CorkYield yield(conn.s->context->loop);
        Response *response = conn.response;
        bool head_only = conn.head->method == "HEAD";
        bool done = true;
        conn.responding = true;
        response->cork([&] {
            write_head(response, status, fields, conn.head->close);
            bool has_length = body || (declared && status.substr(0, 3) != "204");  // RFC 9110 8.6
            if (head_only && has_length) {
                uint64_t length = body && (!body->empty() || !declared) ? body->size() : *declared;
                response->overrideWriteOffset(length);  // otherwise the response is not complete for uWebSockets
                response->endWithoutBody(length);
            } else if (!body) {
                response->endWithoutBody();
            } else if (body->size() <= kCorkedBodyBytes) {
                response->end(*body);
            } else {
                done = response->tryEnd(*body, body->size()).second;
            }
        });
        if (conn.s->closed) return;
        if (done) {
            conn.connections->response_done(conn);
            return;
        }
        response->onWritable([&conn, body = *body, owner = std::move(owner)](uintmax_t offset) {
            bool ok = conn.response->tryEnd(body.substr(offset), body.size()).second;
            if (conn.s->closed) return ok;
            if (ok) {
                conn.connections->response_done(conn);
            } else {
                restart_timer(conn);  // the client has received something
            }
            return ok;
        });
        restart_timer(conn);
    });
}

// --- streamed bodies ---

void stream_response(HttpConnection &conn, std::string_view status, Fields fields, std::unique_ptr<BodyStream> stream,
                     std::optional<uint64_t> declared) {
    if (conn.head->method == "HEAD") {
        send_response(conn, status, fields, std::nullopt, nullptr, declared);
        return;
    }
    or_close(conn.s, [&] {
        CorkYield yield(conn.s->context->loop);
        conn.responding = true;
        conn.stream_left = declared;
        // HTTP/1.0 has no chunks: the end of the connection ends the body (RFC 9112 6.3).
        conn.head->close |= conn.head->is_http10;
        conn.stream = std::move(stream);
        conn.response->cork([&] {
            write_head(conn.response, status, fields, conn.head->close);
            conn.response->writeHeader("Date", {loop_data(conn.s->context->loop)->date, kDateBytes});
            if (declared) conn.response->writeHeader("Content-Length", std::to_string(*declared));
            if (is_chunked(conn)) conn.response->writeHeader("Transfer-Encoding", "chunked");
            AsyncSocketAccess::write(conn.s, "\r\n");
        });
        if (conn.s->closed) return;
        conn.response->onWritable([&conn](uintmax_t) {
            AsyncSocketAccess::write(conn.s, {});
            if (conn.s->closed) return false;
            restart_timer(conn);
            if (buffered_of(conn.s)) return false;
            pump_stream(conn);
            return true;
        });
        pump_stream(conn);
    });
}

// Sends pieces until the socket takes no more, the stream ends or has none yet, or others have waited long enough.
void pump_stream(HttpConnection &conn) {
    or_close(conn.s, [&] {
        CorkYield yield(conn.s->context->loop);
        us_socket_t *s = conn.s;
        const Turn turn(kPumpTime);
        size_t sent = 0;
        while (!s->closed && buffered_of(s) == 0) {
            if (sent > kPumpBytes || (sent && turn.is_over())) {
                restart_timer(conn);
                conn.connections->deferred.add(conn);
                return;
            }
            std::string_view piece;
            BodyStream::Next next = conn.stream->next(piece);
            if (s->closed) return;
            if (next == BodyStream::Next::kLater) break;
            if (next != BodyStream::Next::kPiece) {
                end_stream(conn, next == BodyStream::Next::kEnd);
                return;
            }
            sent += piece.size() + 1;
            const bool has_memory = reserve_backlog(s, piece.size());
            if (!has_memory || (conn.stream_left && piece.size() > *conn.stream_left)) {
                // Nothing of this piece is sent, or a client could take it for the end.
                if (has_memory) {
                    conn.stream->wrong_length(true);
                } else {
                    conn.stream->no_memory();
                }
                end_stream(conn, false);
                return;
            }
            if (conn.stream_left) *conn.stream_left -= piece.size();
            if (!piece.empty()) send_piece(conn, piece);
            trim_backlog(s);
        }
        restart_timer(conn);  // uWebSockets has set its own timeout at the short write
    });
}

void end_stream(HttpConnection &conn, bool complete) {
    or_close(conn.s, [&] {
        CorkYield yield(conn.s->context->loop);
        if (complete && conn.stream_left.value_or(0)) {
            if (conn.stream) conn.stream->wrong_length(false);
            complete = false;
        }
        conn.stream.reset();
        if (conn.s->closed) return;
        if (!complete) {
            // The client must notice that the body is incomplete (RFC 9112 8). With HTTP/1.0, FIN would complete it.
            if (conn.head->is_http10 && !conn.stream_left) {
                us_socket_reset(conn.s);
            } else {
                us_socket_close(0, conn.s, 0, nullptr);
            }
            return;
        }
        if (is_chunked(conn)) AsyncSocketAccess::write(conn.s, "0\r\n\r\n");
        if (conn.s->closed) return;
        static_cast<uWS::HttpResponseData<false> *>(us_socket_ext(0, conn.s))->markDone();
        conn.connections->response_done(conn);
    });
}

// --- refusals ---

bool refuse_request(HttpConnection &conn, int status, std::string_view why) {
    bool head_only = conn.head && conn.head->method == "HEAD";
    conn.connections->limits().refused(refusal_of_code(status));
    conn.connections->heads.remove(conn);
    std::string answer = "HTTP/1.1 ";
    answer.append(std::to_string(status)).append(" ").append(http_reason(status)).append("\r\nConnection: close\r\n");
    answer.append("Content-Type: text/plain;charset=utf-8\r\nContent-Length: ");
    answer.append(std::to_string(why.size())).append("\r\n\r\n");
    if (!head_only) answer.append(why);
    conn.body.clear();
    conn.connections->discard_input(conn);
    us_socket_resume(conn.s, US_PAUSE_HELD);
    AsyncSocketAccess::write(conn.s, answer);
    if (!conn.s->closed) drain_and_end(conn);
    return false;
}

}  // namespace uwserve
