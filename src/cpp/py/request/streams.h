// The methods of the server that answer a request with a streamed body: an iterator that HttpConnections pulls pieces
// from, or pieces that a coroutine pushes (_http/streams.py).
//
// A stream belongs to its connection and ends with it, or before it. Python reaches a pushed one through its request,
// whose `conn` is set to NULL when the request is settled, so no pointer kept here can dangle. Code that runs Python (a
// piece is released, the callback of a pushed stream) may end the stream, so the stream is looked up again afterwards.
#pragma once

#include "py/interpreter/ref.h"

namespace uwserve {

extern PyMethodDef kStreamMethods[];

}  // namespace uwserve
