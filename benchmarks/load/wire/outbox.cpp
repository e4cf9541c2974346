#include "wire/outbox.h"

#include <algorithm>

namespace load {

namespace {

iovec piece(const char *data, size_t size) { return {const_cast<char *>(data), size}; }

}  // namespace

void Outbox::share(std::string_view data) {
    if (data.empty()) return;
    shared_.push_back({own_.size(), data});
    shared_bytes_ += data.size();
}

int Outbox::peek(iovec *pieces, int max) const {
    int count = 0;
    size_t at = sent_;
    for (size_t i = first_; i < shared_.size() && count < max; i++) {
        const Shared &shared = shared_[i];
        if (at < shared.own_before) {
            pieces[count++] = piece(own_.data() + at, shared.own_before - at);
            at = shared.own_before;
            if (count == max) return count;
        }
        pieces[count++] = piece(shared.data.data(), shared.data.size());
    }
    if (count < max && at < own_.size()) pieces[count++] = piece(own_.data() + at, own_.size() - at);
    return count;
}

void Outbox::consume(size_t size) {
    while (size && first_ < shared_.size()) {
        Shared &shared = shared_[first_];
        size_t own = std::min(size, shared.own_before - sent_);
        sent_ += own;
        size -= own;
        size_t taken = std::min(size, shared.data.size());
        shared.data.remove_prefix(taken);
        shared_bytes_ -= taken;
        size -= taken;
        if (!shared.data.empty()) break;
        first_++;
    }
    sent_ += size;
    if (empty()) {
        clear();
    } else if (sent_ > kCompact) {
        own_.erase(0, sent_);
        shared_.erase(shared_.begin(), shared_.begin() + static_cast<ptrdiff_t>(first_));
        for (Shared &shared : shared_) shared.own_before -= sent_;
        sent_ = first_ = 0;
    }
}

void Outbox::clear() {
    own_.clear();
    shared_.clear();
    sent_ = first_ = shared_bytes_ = 0;
}

}  // namespace load
