// The PROXY header parser. Input: what a connection begins with.
//
// Promises: the verdict on a beginning is never taken back: a header that is complete stays so, with the same length and
// address, whatever follows; bytes that can't become one stay refused; nothing beyond the header is needed or read.
#include "fuzz.h"

#include "usockets/proxy/parse.h"

#include <algorithm>
#include <cstring>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    us_proxy_header_t whole{};
    const int result = us_proxy_parse(data, size, &whole);
    CHECK(result >= -1 && result <= (int) std::min<size_t>(size, US_PROXY_MAX));
    if (result == 0) CHECK(size < US_PROXY_MAX);  // it does not wait for ever
    if (result > 0 && whole.has_address) CHECK(whole.ip_length == 4 || whole.ip_length == 16);
    int before = 0;
    for (size_t length = 0; length <= std::min<size_t>(size, 300); length++) {
        const std::vector<uint8_t> copy(data, data + length);  // its own block: reading past it is seen
        us_proxy_header_t header{};
        const int part = us_proxy_parse(copy.data(), length, &header);
        if (before) {
            CHECK_EQ(part, before);
        } else if (part) {
            CHECK(part < 0 || part == (int) length);
            CHECK_EQ(part, result);
            if (part > 0) {
                CHECK_EQ(header.has_address, whole.has_address);
                if (header.has_address) {
                    CHECK(header.ip_length == whole.ip_length && header.port == whole.port);
                    CHECK(memcmp(header.ip, whole.ip, header.ip_length) == 0);
                }
            }
        }
        before = part;
    }
    return 0;
}
