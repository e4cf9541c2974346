#include "uws/deflate/per_message.h"

#include "uws/topics/fan_out.h"
#include "uws/websocket/lifecycle.h"

namespace uwserve {

namespace {

constexpr int kDedicatedLevel = 6;

std::optional<std::string_view> compress(uWS::DeflationStream &stream, std::string_view message, FanOut *fan_out,
                                         uint32_t sequence) {
    const Negotiated &settings = stream.settings;
    if (!settings.send_memory) {
        return fan_out ? fan_out->compressed(*stream.codecs, message, sequence, settings.send_window)
                       : stream.codecs->deflate(message, settings.send_window);
    }
    if (!stream.own) {
        unsigned window = Codecs::real_window(settings.send_window);
        stream.own.reset(new (std::nothrow) Deflater(window, settings.send_memory, kDedicatedLevel));
        if (!stream.own) return std::nullopt;
    }
    return stream.codecs->deflate_in_context(*stream.own, message);
}

}  // namespace

void enable_compression(Socket *ws, Codecs &codecs, const Negotiated &agreed) {
    if (!agreed.active) return;
    WebSocketAccess::enable_compression(websocket_data(raw(ws)), std::make_unique<uWS::DeflationStream>(codecs, agreed),
                                        std::make_unique<uWS::InflationStream>(codecs, agreed));
}

bool may_compress(us_socket_t *ws) { return WebSocketAccess::inflation(websocket_data(ws)) != nullptr; }

Inflated inflate_message(us_socket_t *ws, std::string_view compressed, size_t limit, std::string_view *out) {
    return WebSocketAccess::inflation(websocket_data(ws))->run(compressed, limit, out);
}

Socket::SendStatus send_compressed(Socket *ws, uWS::DeflationStream &stream, std::string_view message,
                                   uWS::OpCode opcode, FanOut *fan_out, uint32_t sequence) {
    send_queued(ws);
    std::optional<std::string_view> packed = compress(stream, message, fan_out, sequence);
    if (!packed) return write_message(ws, message, opcode, false);
    Lifecycle::of(raw(ws))->limits().stats.sent.add_compressed(message.size(), packed->size());
    return write_message(ws, *packed, opcode, true);
}

}  // namespace uwserve
