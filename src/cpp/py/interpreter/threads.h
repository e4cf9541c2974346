// Names for threads in error messages.
#pragma once

#include <string>

namespace uwserve {

// "'uwserve' (id 140...)", or "thread 140..." for one that Python does not know. Needs the GIL; keeps no exception.
std::string describe_thread(unsigned long ident);

}  // namespace uwserve
