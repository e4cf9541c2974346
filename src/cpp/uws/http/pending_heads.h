// Connections whose first request has not arrived yet, by age. The list links its members themselves: adding, removing
// and finding the oldest take constant time and no memory. A member is removed before it is freed. Loop thread only.
#pragma once

#include <cstdint>

namespace uwserve {

struct PendingHead {
    PendingHead *older = nullptr, *newer = nullptr;
    bool is_pending = false;
};

class PendingHeads {
  public:
    void add(PendingHead &member) {
        member = {newest_, nullptr, true};
        (newest_ ? newest_->newer : oldest_) = &member;
        newest_ = &member;
        size_++;
    }
    // Without effect on a connection that is not in the list.
    void remove(PendingHead &member) {
        if (!member.is_pending) return;
        (member.older ? member.older->newer : oldest_) = member.newer;
        (member.newer ? member.newer->older : newest_) = member.older;
        member = {};
        size_--;
    }
    PendingHead *oldest() const { return oldest_; }
    uint32_t size() const { return size_; }

  private:
    PendingHead *oldest_ = nullptr, *newest_ = nullptr;
    uint32_t size_ = 0;
};

}  // namespace uwserve
