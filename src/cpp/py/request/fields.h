// Header fields given by Python, validated (RFC 9110 section 5) and kept alive for as long as they are used.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "py/interpreter/ref.h"
#include "uws/http/connections.h"

namespace uwserve {

class FieldList {
  public:
    enum class For { kResponse, kUpgrade };
    // From a sequence of (name, value) pairs, a mapping, anything with items(), or None. Fields that the core writes
    // itself (Content-Length, Date, ...) are left out of responses. False with TypeError or ValueError set, which names
    // the field.
    bool read(PyObject *object, For purpose);
    Fields fields() const { return {views_.data(), views_.size()}; }
    // Content-Length among the fields of a response, for a body that the core does not have in full.
    std::optional<uint64_t> content_length() const { return content_length_; }
    bool wants_close() const { return wants_close_; }
    // The names in the Sec-WebSocket-Protocol fields of an upgrade.
    const std::vector<std::string> &protocols() const { return protocols_; }

  private:
    bool add(PyObject *name, PyObject *value, For purpose);
    std::deque<std::pair<std::string, std::string>> owned_;
    std::vector<std::pair<std::string_view, std::string_view>> views_;
    std::vector<std::string> protocols_;
    std::optional<uint64_t> content_length_;
    bool read_content_length(PyObject *object, std::string_view value);
    bool wants_close_ = false;
};

}  // namespace uwserve
