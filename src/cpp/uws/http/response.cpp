// Output side of HttpConnections: responses, streamed bodies, upgrades and refusals.
//
// Upstream is never told that a connection ends with a response (its own handling forgets it in corners, defects H6,
// H13): HttpConnections writes "Connection: close" itself and ends the connection when the last byte has left. Bodies larger
// than the cork buffer go through tryEnd() and onWritable(), so that they are neither copied nor lost (S2). The chunks of
// a streamed body are written here: upstream sends the end of a head, and of a chunk, only with the next one, which a
// client may have to wait for.
#include <charconv>
#include <chrono>
#include <cstring>

#include "uws/http/connections.h"
#include "uws/http/status.h"
#include "usockets/tcp/read.h"

namespace uwserve {

namespace {

// What fits into upstream's cork buffer beside a head of ordinary size.
constexpr size_t kCorkedBodyBytes = 12 * 1024;
// Of an HTTP date (RFC 9110 5.6.7).
constexpr size_t kDateBytes = 29;
// A stream yields to other connections after this much.
constexpr size_t kPumpBytes = 256 * 1024;
constexpr std::chrono::milliseconds kPumpTime{2};

uWS::AsyncSocket<false> *async(us_socket_t *s) { return reinterpret_cast<uWS::AsyncSocket<false> *>(s); }

void write(us_socket_t *s, std::string_view bytes) {
    AsyncSocketAccess::write(async(s), bytes.data(), static_cast<int>(bytes.size()));
}

std::string_view date_of(us_socket_t *s) { return {loop_data(s->context->loop)->date, kDateBytes}; }

void write_head(Response *response, std::string_view status, Fields fields, bool close) {
    response->writeStatus(status);
    for (auto [name, value] : fields) response->writeHeader(name, value);
    if (close) response->writeHeader("Connection", "close");
}

}  // namespace

void HttpConnections::respond(HttpConnection &conn, std::string_view status, Fields fields,
                              std::optional<std::string_view> body, std::unique_ptr<BodyOwner> owner,
                              std::optional<uint64_t> declared) {
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
                response->overrideWriteOffset(length);  // upstream takes the response for complete only then
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
            response_done(conn);
            return;
        }
        response->onWritable([this, &conn, body = *body, owner = std::move(owner)](uintmax_t offset) {
            bool ok = conn.response->tryEnd(body.substr(offset), body.size()).second;
            if (conn.s->closed) return ok;
            if (ok) {
                response_done(conn);
            } else {
                restart_timer(conn);  // the client has read something
            }
            return ok;
        });
        restart_timer(conn);
    });
}

// --- streamed bodies ---

void HttpConnections::respond_stream(HttpConnection &conn, std::string_view status, Fields fields,
                                     std::unique_ptr<BodyStream> stream, std::optional<uint64_t> declared) {
    if (conn.head->method == "HEAD") {
        respond(conn, status, fields, std::nullopt, nullptr, declared);
        return;
    }
    or_close(conn.s, [&] {
        CorkYield yield(conn.s->context->loop);
        conn.responding = true;
        conn.stream_left = declared;
        // HTTP/1.0 knows no chunks: its body ends with the connection (RFC 9112 6.3).
        conn.head->close |= conn.head->is_http10;
        conn.stream = std::move(stream);
        conn.response->cork([&] {
            write_head(conn.response, status, fields, conn.head->close);
            conn.response->writeHeader("Date", date_of(conn.s));
            if (declared) conn.response->writeHeader("Content-Length", std::to_string(*declared));
            if (is_chunked(conn)) conn.response->writeHeader("Transfer-Encoding", "chunked");
            write(conn.s, "\r\n");
        });
        if (conn.s->closed) return;
        conn.response->onWritable([this, &conn](uintmax_t) {
            AsyncSocketAccess::write(async(conn.s), nullptr, 0);
            if (conn.s->closed) return false;
            restart_timer(conn);
            if (buffered_of(conn.s)) return false;
            pump(conn);
            return true;
        });
        pump(conn);
    });
}

// Pulls pieces until the socket takes no more, the stream ends or has none yet, or others had to wait long enough.
void HttpConnections::pump(HttpConnection &conn) {
    or_close(conn.s, [&] {
        CorkYield yield(conn.s->context->loop);
        us_socket_t *s = conn.s;
        auto begun = std::chrono::steady_clock::now();
        size_t sent = 0;
        while (!s->closed && buffered_of(s) == 0) {
            if (sent > kPumpBytes || (sent && std::chrono::steady_clock::now() - begun > kPumpTime)) {
                restart_timer(conn);
                queue_ready(conn);
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
            if (!reserve_backlog(s, piece.size())) {
                conn.stream->no_memory();
                end_stream(conn, false);
                return;
            }
            if (conn.stream_left) {
                if (piece.size() > *conn.stream_left) {  // nothing of it is sent: a client must not take it for the end
                    conn.stream->wrong_length(true);
                    end_stream(conn, false);
                    return;
                }
                *conn.stream_left -= piece.size();
            }
            if (!piece.empty()) send_piece(conn, piece);
            trim_backlog(s);
        }
        restart_timer(conn);  // upstream armed its own at the short write
    });
}

// As a chunk (RFC 9112 7.1), or as it is: to HTTP/1.0, and with a length that was declared.
void HttpConnections::send_piece(HttpConnection &conn, std::string_view piece) {
    conn.response->cork([&] {
        if (!is_chunked(conn)) {
            write(conn.s, piece);
            return;
        }
        char size[2 * sizeof(size_t) + 2];
        char *end = std::to_chars(size, size + sizeof(size), piece.size(), 16).ptr;
        *end++ = '\r';
        *end++ = '\n';
        write(conn.s, std::string_view(size, static_cast<size_t>(end - size)));
        write(conn.s, piece);
        write(conn.s, "\r\n");
    });
}

void HttpConnections::end_stream(HttpConnection &conn, bool complete) {
    or_close(conn.s, [&] {
        CorkYield yield(conn.s->context->loop);
        if (complete && conn.stream_left.value_or(0)) {
            if (conn.stream) conn.stream->wrong_length(false);
            complete = false;
        }
        conn.stream.reset();
        if (conn.s->closed) return;
        if (!complete) {
            // The client must not take what it has for everything (RFC 9112 section 8). To HTTP/1.0 a FIN would say just that.
            if (conn.head->is_http10 && !conn.stream_left) {
                us_socket_reset(conn.s);
            } else {
                us_socket_close(0, conn.s, 0, nullptr);
            }
            return;
        }
        if (is_chunked(conn)) write(conn.s, "0\r\n\r\n");
        if (conn.s->closed) return;
        static_cast<uWS::HttpResponseData<false> *>(us_socket_ext(0, conn.s))->markDone();
        response_done(conn);
    });
}

// --- upgrades and refusals ---

void HttpConnections::upgrade(HttpConnection &conn, const UpgradeAnswer &answer) {
    us_socket_t *s = conn.s;
    CorkYield yield(s->context->loop);
    Response *response = conn.response;
    HttpConnection::Frame *frame = conn.frame;
    std::string rest = std::move(conn.held);
    pending--;
    if (conn.ready_queued) std::erase(ready_, &conn);
    heads_.remove(conn);
    if (conn.client_counted) limits_.client_stays(s, conn.client);
    s->user = nullptr;
    delete &conn;

    try {
        response->cork([&] {
            response->writeStatus("101 Switching Protocols");
            for (auto [name, value] : answer.fields) response->writeHeader(name, value);
            if (!answer.extensions.empty()) response->writeHeader("Sec-WebSocket-Extensions", answer.extensions);
            response->upgrade<PerSocket>(PerSocket(answer.user), answer.key, answer.protocol, std::string_view(), ws_);
        });
    } catch (...) {
        if (!s->moved_to) response->onAborted([] {});  // upstream would call conn's, which is gone
        drop_corked(s);
        us_socket_close(0, us_socket_newest(s), 0, nullptr);
        throw;
    }

    us_socket_t *ws = s->moved_to;
    if (!ws->closed && is_shutting_down(ws) && buffered_of(ws) == 0) us_socket_shutdown(0, ws);  // defect S6
    if (frame) {
        frame->upgraded = ws;
        return;
    }
    if (ws->closed) return;
    if (rest.empty()) {
        us_socket_resume(ws, US_PAUSE_HELD);
        return;
    }
    // Accepted outside its own dispatch: what the client sent meanwhile is delivered when no handler is on the stack.
    hold_late_bytes(ws, std::move(rest));
    wake();
}

void HttpConnections::refuse(HttpConnection &conn, int status, const char *why) {
    bool head_only = conn.head && conn.head->method == "HEAD";
    limits_.refused(refusal_of_status(status));
    heads_.remove(conn);
    std::string answer = "HTTP/1.1 ";
    answer.append(std::to_string(status)).append(" ").append(http_reason(status)).append("\r\nConnection: close\r\n");
    answer.append("Content-Type: text/plain;charset=utf-8\r\nContent-Length: ");
    answer.append(std::to_string(strlen(why))).append("\r\n\r\n");
    if (!head_only) answer.append(why);
    conn.state = HttpConnection::State::kDraining;
    conn.held.clear();
    conn.body.clear();
    charge(conn);
    us_socket_resume(conn.s, US_PAUSE_HELD);
    AsyncSocketAccess::write(async(conn.s), answer.data(), static_cast<int>(answer.size()));
    if (!conn.s->closed) drain_and_end(conn);
}

}  // namespace uwserve
