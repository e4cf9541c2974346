// When a silent WebSocket is pinged, and when the idle timeout closes it. Silence begins with the last received byte.
// Pure functions of the options and the seconds of silence; any thread.
//
// The first Ping is due after ping_interval or, if pings are on, `margin` before the end of the idle timeout, whichever
// is sooner; each further Ping is due ping_interval after the last. Either option may be 0: off.
#pragma once

#include <algorithm>

namespace uwserve {

class PingSchedule {
  public:
    PingSchedule() : PingSchedule(120, true, 0) {}
    PingSchedule(unsigned idle_timeout, bool send_pings, unsigned ping_interval)
        : idle_(idle_timeout),
          margin_(std::clamp(idle_timeout / 4, 4u, 16u)),
          interval_(ping_interval),
          warns_(send_pings && idle_timeout > margin_) {}

    // Seconds until the next Ping or the end is due; 0: never. `silent`: seconds of silence at the last Ping, 0 before
    // the first.
    unsigned next(unsigned silent) const {
        unsigned ping = interval_;
        if (warns_ && silent == 0) ping = ping ? std::min(ping, idle_ - margin_) : idle_ - margin_;
        if (!idle_) return ping;
        unsigned end = silent < idle_ ? idle_ - silent : 1;
        return ping ? std::min(ping, end) : end;
    }
    // Whether the end is due then, instead of a Ping.
    bool closes(unsigned silent) const { return idle_ && silent >= idle_; }
    // The seconds of silence to record; 0 without an idle timeout, as Pings do not depend on them.
    unsigned counted(unsigned silent) const { return idle_ ? silent : 0; }
    unsigned idle() const { return idle_; }
    unsigned margin() const { return margin_; }

    bool operator==(const PingSchedule &) const = default;

  private:
    unsigned idle_, margin_, interval_;
    bool warns_;
};

}  // namespace uwserve
