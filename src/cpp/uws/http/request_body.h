// The body of a request, from its first byte until the application frees the request. All that time it is charged to
// the server's buffered bytes, and to the share of them that bodies may take together. The charge belongs to the object
// and moves with it.
//
// append() runs on the loop's thread, the destructor on any.
#pragma once

#include <new>
#include <string>
#include <utility>

#include "uws/limits/limits.h"

namespace uwserve {

class RequestBody {
  public:
    RequestBody() = default;
    RequestBody(RequestBody &&other) noexcept
        : bytes_(std::exchange(other.bytes_, {})), limits_(other.limits_), charged_(std::exchange(other.charged_, 0)) {}
    RequestBody &operator=(RequestBody &&) = delete;
    ~RequestBody() { discharge(); }

    // False: there is no memory, and nothing has changed.
    bool append(Limits &limits, std::string_view more) {
        try {
            bytes_.append(more);
        } catch (const std::bad_alloc &) {
            return false;
        }
        limits_ = &limits;
        charged_ += more.size();
        limits.charge_body(more.size());
        return true;
    }
    size_t size() const { return bytes_.size(); }
    bool empty() const { return bytes_.empty(); }
    std::string_view view() const { return bytes_; }
    // Keeps the charge: another object has a copy, which lives at least as long as this one.
    void free_bytes() { std::string().swap(bytes_); }
    void clear() {
        free_bytes();
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
