// Pausing a WebSocket while the layer above has no room for its events (US_PAUSE_QUEUE), and parsing on afterwards.
//
// What was read before the pause, and not parsed, is kept as raw bytes, so that the bound of a socket's queue holds
// however small, or however well compressed, its messages are. Loop thread only.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "uws/http/connections.h"

namespace uwserve {

void pause_for_queue(Socket *ws);
// False: the socket stays paused, for another reason.
bool resume_from_queue(Socket *ws);
// Whether nothing keeps the socket from parsing more. Bytes that HttpConnections holds (US_PAUSE_HELD) have come later,
// and are parsed later.
bool may_parse(Socket *ws);

class UnparsedBytes {
  public:
    size_t size() const { return bytes_.size(); }
    bool is_parsed() const { return parsed_ == bytes_.size(); }
    // The bytes that the parser leaves: new ones, or the end of the piece that it is being given. Throws
    // std::bad_alloc.
    void add(std::string_view rest);
    // Gives the parser as much as one turn allows. `may_go_on` is asked before each piece.
    template <typename F>
    void parse(Socket *ws, F may_go_on) {
        const Turn turn;
        const size_t end = std::min(parsed_ + kTurnBytes, bytes_.size());
        while (parsed_ < end && may_go_on() && !turn.is_over()) parse_piece(ws, std::min(kTurnPiece, end - parsed_));
    }
    void clear();

  private:
    void parse_piece(Socket *ws, size_t length);

    std::string bytes_;
    size_t parsed_ = 0;  // of them, in the meantime
    bool is_parsing_ = false;
};

}  // namespace uwserve
