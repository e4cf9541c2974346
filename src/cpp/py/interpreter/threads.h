// Names for threads in error messages.
#pragma once

#include <string>

namespace uwserve {

// "'uwserve' (id 140...)", or "thread 140..." for a thread that Python does not know. GIL; sets no exception.
std::string describe_thread(unsigned long ident);

}  // namespace uwserve
