// When a silent WebSocket is pinged, and when it is closed. Silence is counted from the last received byte. Pure functions
// of the options and the seconds of silence; any thread.
//
// The first Ping comes after ping_interval or, if the idle timeout has pings, `margin` before its end, whichever is sooner;
// each further one ping_interval after the last. Only the idle timeout closes. Either may be 0: off.
#pragma once

#include <algorithm>

namespace uwserve {

class Liveness {
  public:
    Liveness() : Liveness(120, true, 0) {}
    Liveness(unsigned idle_timeout, bool send_pings, unsigned ping_interval)
        : idle_(idle_timeout),
          margin_(std::clamp(idle_timeout / 4, 4u, 16u)),
          interval_(ping_interval),
          warns_(send_pings && idle_timeout > margin_) {}

    // In how many seconds something is due; 0: never. `silent`: the seconds of silence at the last Ping, 0 before the first.
    unsigned next(unsigned silent) const {
        unsigned ping = interval_;
        if (warns_ && silent == 0) ping = ping ? std::min(ping, idle_ - margin_) : idle_ - margin_;
        if (!idle_) return ping;
        unsigned end = silent < idle_ ? idle_ - silent : 1;
        return ping ? std::min(ping, end) : end;
    }
    // What is due then: the end, or a Ping.
    bool closes(unsigned silent) const { return idle_ && silent >= idle_; }
    // Without an end there is nothing to count towards.
    unsigned counted(unsigned silent) const { return idle_ ? silent : 0; }
    unsigned idle() const { return idle_; }
    unsigned margin() const { return margin_; }

    bool operator==(const Liveness &) const = default;

  private:
    unsigned idle_, margin_, interval_;
    bool warns_;
};

}  // namespace uwserve
