// ws.messages(): an asynchronous iterator over the messages in the queue of a socket. GIL.
#pragma once

#include "py/websocket/object.h"

namespace uwserve {

struct MessagesObject;

bool add_messages_types(PyObject *module, ModuleState *state);
// A message has come, or there will be no more.
void wake_iterator(ServerCore &core, MessagesObject *iterator);
extern PyMethodDef kMessagesMethods[];

}  // namespace uwserve
