// Bytes that were read from a socket before it was paused and that the parser has not looked at. Raw, so that the bound of a
// socket's queue holds however small, or however well compressed, its messages are.
#pragma once

#include <string>
#include <string_view>

namespace uwserve {

class UnparsedBytes {
  public:
    size_t size() const { return bytes_.size(); }
    size_t parsed() const { return parsed_; }  // of size(), in the meantime
    bool is_parsed() const { return parsed_ == bytes_.size(); }
    // What the parser leaves: new bytes, or the end of the piece that it is being given. Throws std::bad_alloc.
    void add(std::string_view rest) {
        if (is_parsing_) {
            parsed_ -= rest.size();
        } else {
            bytes_.append(rest);
        }
    }
    // Gives the next `length` bytes to `parse`.
    template <typename F>
    void parse(size_t length, F parse) {
        parsed_ += length;
        is_parsing_ = true;
        parse(bytes_.data() + parsed_ - length, length);
        is_parsing_ = false;
    }
    void clear() {
        std::string().swap(bytes_);
        parsed_ = 0;
    }

  private:
    std::string bytes_;
    size_t parsed_ = 0;
    bool is_parsing_ = false;
};

}  // namespace uwserve
