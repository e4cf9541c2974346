// The body of a request, from its first byte at the gate until the application lets go of the request: charged all that
// time to the server's buffered bytes, and to the share of them that bodies may take together. The charge moves with the
// bytes, so whoever owns the object need not think of it.
//
// append() on the loop's thread; the end of it on any.
#pragma once

#include <string>
#include <utility>

#include "limits.h"

namespace uwserve {

class RequestBody {
  public:
    RequestBody() = default;
    RequestBody(RequestBody &&other) noexcept
        : bytes_(std::exchange(other.bytes_, {})), limits_(other.limits_), charged_(std::exchange(other.charged_, 0)) {}
    RequestBody &operator=(RequestBody &&) = delete;
    ~RequestBody() { discharge(); }

    // std::bad_alloc, and nothing has changed.
    void append(Limits &limits, std::string_view more) {
        bytes_.append(more);
        limits_ = &limits;
        charged_ += more.size();
        limits.charge_body(more.size());
    }
    size_t size() const { return bytes_.size(); }
    bool empty() const { return bytes_.empty(); }
    std::string_view view() const { return bytes_; }
    // Somebody has a copy, which lives as long as this object at least: the bytes go, the charge stays.
    void handed_out() { std::string().swap(bytes_); }
    void clear() {
        std::string().swap(bytes_);
        discharge();
    }

  private:
    void discharge() {
        if (size_t bytes = std::exchange(charged_, 0)) limits_->discharge_body(bytes);
    }

    std::string bytes_;
    Limits *limits_ = nullptr;  // outlives every connection and request
    size_t charged_ = 0;
};

}  // namespace uwserve
