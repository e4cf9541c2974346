// Binary messages as bytearray or memoryview.
//
// A memoryview shows a large message where it is stored (uws/websocket/message_loan.h), and is released when the
// handler returns. But a slice of it, or an array over it, shares the memory and survives the release. So the view's
// owner is an object of this file that counts its exports: if any is left after the release, the owner takes the memory
// over. Small messages are copied: that is cheaper than either.
#pragma once

#include "py/websocket/object.h"

namespace uwserve {

// The object that a handler gets for a binary message.
struct BinaryMessage {
    Ref object;
    Ref owner;  // set for a memoryview, which must be released afterwards; the handler may release the view before
};
BinaryMessage make_binary(ServerCore &core, Socket *ws, BinaryType type, std::string_view message);
void release_view(ServerCore &core, BinaryMessage &message);
bool add_view_owner_type(PyObject *module, ModuleState *state);

}  // namespace uwserve
