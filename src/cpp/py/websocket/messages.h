// ws.messages(): an asynchronous iterator over the messages in the queue of a socket.
//
// `Messages` is the iterator; while it lives and is not closed, the socket's messages wait for it. It refers to the
// handle; the handle's queue refers to it without a reference, so dropping it, as `break` does, gives the messages
// back. Its __anext__ returns a `MessageWait`. That takes a message if there is one; else it waits for a future of the
// running event loop, which only says that it is worth looking again. So nothing is lost when the waiting task is
// cancelled.
//
// One task at a time may wait. A MessageWait claims the iterator (`waiting`) before it runs any Python, and releases it
// when it ends, however it does. Every other MessageWait is refused, also one that was made before the claim; so is a
// second task that awaits the same one. A refusal changes nothing for the task that waits. A claim whose event loop has
// been closed is void.
//
// It may be iterated in any thread's event loop. GIL.
#pragma once

#include "py/websocket/object.h"

namespace uwserve {

struct MessagesObject;

bool add_messages_types(PyObject *module, ModuleState *state);
// A message has come, or no more will come.
void wake_iterator(ServerCore &core, MessagesObject *iterator);
extern PyMethodDef kMessagesMethods[];

}  // namespace uwserve
