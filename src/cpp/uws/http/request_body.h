// The body of a request, from its first byte until the application frees the request. All that time it is charged to
// the server's buffered bytes, and to the share of them that bodies may take together. The charge moves with the bytes,
// so the owner of the object need not care for it.
//
// append() runs on the loop's thread, the destructor on any.
#pragma once

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

    // Throws std::bad_alloc, and then nothing has changed.
    void append(Limits &limits, std::string_view more) {
        bytes_.append(more);
        limits_ = &limits;
        charged_ += more.size();
        limits.charge_body(more.size());
    }
    size_t size() const { return bytes_.size(); }
    bool empty() const { return bytes_.empty(); }
    std::string_view view() const { return bytes_; }
    // Another object has a copy that lives at least as long as this one: frees the bytes, keeps the charge.
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
