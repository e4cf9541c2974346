// One function for each mode of uwserve-load. They throw std::runtime_error when the server does something wrong.
#pragma once

#include "options.h"
#include "report.h"

namespace load {

Report run_echo(const Options &options);
Report run_fanout(const Options &options);
Report run_storm(const Options &options);
Report run_hold(const Options &options);
Report run_slow(const Options &options);
Report run_fair(const Options &options);

struct Mode {
    const char *name;
    Report (*run)(const Options &options);
};
inline constexpr Mode kModes[] = {{"echo", run_echo}, {"fanout", run_fanout}, {"storm", run_storm},
                                  {"hold", run_hold}, {"slow", run_slow},     {"fair", run_fair}};

}  // namespace load
