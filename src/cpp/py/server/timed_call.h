// TimedCall: a callable in front of a handler that measures how long it takes, while the dashboard is open.
//
// The times go into a histogram whose buckets are an eighth of a power of two wide, so that a percentile is right
// within 7 %, whatever the times are, in 4 KB. take() reads and clears the histogram. A call costs two more reads of
// the clock, some 50 ns; a handler without a TimedCall costs nothing. GIL.
#pragma once

#include "py/interpreter/ref.h"

namespace uwserve {

// Makes the type TimedCall and adds it to the module. False with an exception set.
bool add_timed_call_type(PyObject *module);

}  // namespace uwserve
