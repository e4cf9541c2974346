// One function for each mode of uwserve-load. They throw std::runtime_error when the server does something wrong.
#pragma once

#include "options.h"
#include "report.h"

namespace load {

Report run_echo(const Options &options);
Report run_hold(const Options &options);
Report run_fair(const Options &options);

}  // namespace load
