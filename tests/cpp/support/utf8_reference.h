// utf8_reference.h - the plainest validator of UTF-8 there is, written from the table of RFC 3629 section 4: what the
// real one is compared with, and what checks the text that reaches a handler.
#pragma once

#include <cstddef>
#include <string_view>

// The position of the first byte that can't be, or the size when there is none. *complete: no character is cut at the end.
inline size_t utf8_first_bad(std::string_view text, bool *complete) {
    *complete = true;
    for (size_t i = 0; i < text.size();) {
        const auto at = [&](size_t k) { return (unsigned char) text[k]; };
        const unsigned char lead = at(i);
        size_t length;
        unsigned char low = 0x80, high = 0xbf;  // of the second byte
        if (lead <= 0x7f) {
            length = 1;
        } else if (lead >= 0xc2 && lead <= 0xdf) {
            length = 2;
        } else if (lead >= 0xe0 && lead <= 0xef) {
            length = 3;
            if (lead == 0xe0) low = 0xa0;  // shorter forms exist below
            if (lead == 0xed) high = 0x9f;  // surrogates above
        } else if (lead >= 0xf0 && lead <= 0xf4) {
            length = 4;
            if (lead == 0xf0) low = 0x90;
            if (lead == 0xf4) high = 0x8f;  // beyond U+10FFFF above
        } else {
            return i;
        }
        for (size_t k = 1; k < length; k++) {
            if (i + k == text.size()) {
                *complete = false;
                return text.size();
            }
            if (at(i + k) < low || at(i + k) > high) return i + k;
            low = 0x80;
            high = 0xbf;
        }
        i += length;
    }
    return text.size();
}

inline bool utf8_is_valid(std::string_view text) {
    bool complete;
    return utf8_first_bad(text, &complete) == text.size() && complete;
}
