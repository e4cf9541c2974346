// proxy/parse.cpp - the two formats of a PROXY header. A pure function over bytes; no more lenient than the
// specification.

#include "usockets/proxy/parse.h"

#include <arpa/inet.h>
#include <string.h>

#include <algorithm>
#include <charconv>
#include <string_view>

static const uint8_t SIGNATURE[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};
static constexpr std::string_view WORD = "PROXY ";

enum { V2_FIXED = 16, TLV_HEAD = 3, TLV_CRC32C = 3 };

// ---- version 1 ----

// Splits off the word up to the next space, or to the end when it is the last one.
static bool next_word(std::string_view *rest, bool last, std::string_view *word) {
    const size_t space = rest->find(' ');
    if (last != (space == std::string_view::npos)) {
        return false;
    }
    *word = rest->substr(0, space);
    rest->remove_prefix(last ? rest->size() : space + 1);
    return !word->empty();
}

static bool read_address(std::string_view word, int family, uint8_t *address) {
    char text[INET6_ADDRSTRLEN] = {};
    if (word.size() >= sizeof(text) || word.find('\0') != std::string_view::npos) {
        return false;
    }
    memcpy(text, word.data(), word.size());
    return inet_pton(family, text, address) == 1;
}

static bool read_port(std::string_view word, uint16_t *port) {
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), *port);
    return error == std::errc() && end == word.data() + word.size() && (word.size() == 1 || word[0] != '0');
}

// The line without "PROXY " and CRLF.
static bool read_line(std::string_view rest, us_proxy_header_t *header) {
    if (rest.starts_with("UNKNOWN")) {
        return rest.size() == 7 || rest[7] == ' ';  // the rest must be ignored
    }
    std::string_view word;
    if (!next_word(&rest, false, &word) || (word != "TCP4" && word != "TCP6")) {
        return false;
    }
    const int family = word == "TCP4" ? AF_INET : AF_INET6;
    header->ip_length = family == AF_INET ? 4 : 16;
    header->has_address = true;
    uint8_t destination[16];
    uint16_t destination_port;
    return next_word(&rest, false, &word) && read_address(word, family, header->ip) && next_word(&rest, false, &word) &&
           read_address(word, family, destination) && next_word(&rest, false, &word) &&
           read_port(word, &header->port) && next_word(&rest, true, &word) && read_port(word, &destination_port);
}

static int parse_v1(const uint8_t *data, size_t length, us_proxy_header_t *header) {
    const std::string_view text((const char *) data, std::min<size_t>(length, US_PROXY_V1_MAX));
    if (text.substr(0, WORD.size()) != WORD.substr(0, length)) {
        return -1;
    }
    const size_t feed = text.find('\n');
    if (feed == std::string_view::npos) {
        return length >= US_PROXY_V1_MAX ? -1 : 0;
    }
    if (feed <= WORD.size() || text[feed - 1] != '\r') {
        return -1;
    }
    return read_line(text.substr(WORD.size(), feed - 1 - WORD.size()), header) ? (int) feed + 1 : -1;
}

// ---- version 2 ----

static unsigned read_16(const uint8_t *at) { return (unsigned) at[0] << 8 | at[1]; }

// CRC-32C (Castagnoli, as in RFC 9260 appendix A) of the header with the four bytes at `hole` as zero. Bit by bit is
// fast enough for some hundred bytes per connection.
static uint32_t checksum(const uint8_t *data, size_t length, size_t hole) {
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < length; i++) {
        crc ^= i - hole < 4 ? 0u : data[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0u);
        }
    }
    return ~crc;
}

// The type-length-values must fill the rest of the header exactly; only the checksum is evaluated.
static bool check_values(const uint8_t *data, size_t length, size_t at) {
    while (at < length) {
        if (length - at < TLV_HEAD) {
            return false;
        }
        const uint8_t type = data[at];
        const size_t size = read_16(data + at + 1);
        at += TLV_HEAD;
        if (size > length - at) {
            return false;
        }
        if (type == TLV_CRC32C) {
            if (size != 4 || checksum(data, length, at) != (read_16(data + at) << 16 | read_16(data + at + 2))) {
                return false;
            }
        }
        at += size;
    }
    return true;
}

// The address block. One byte of the header has its family and its protocol, four bits each.
static bool read_block(const uint8_t *data, size_t length, us_proxy_header_t *header) {
    enum { INET = 1, INET6 = 2, UNIX = 3, STREAM = 1, DGRAM = 2 };
    static const size_t sizes[] = {0, 12, 36, 216};
    const unsigned family = data[13] >> 4, protocol = data[13] & 15;
    if (family > UNIX || protocol > DGRAM) {
        return false;
    }
    if (family == 0 || protocol == 0) {
        return true;  // UNSPEC: the whole block is to be ignored
    }
    if (length - V2_FIXED < sizes[family]) {
        return false;
    }
    const uint8_t *block = data + V2_FIXED;
    if (family != UNIX && protocol == STREAM) {
        header->ip_length = family == INET ? 4 : 16;
        header->has_address = true;
        memcpy(header->ip, block, header->ip_length);
        header->port = (uint16_t) read_16(block + 2 * header->ip_length);
    }
    return check_values(data, length, V2_FIXED + sizes[family]);
}

static int parse_v2(const uint8_t *data, size_t length, us_proxy_header_t *header) {
    enum { LOCAL = 0x20, PROXY = 0x21 };
    if (memcmp(data, SIGNATURE, std::min(length, sizeof(SIGNATURE))) != 0) {
        return -1;
    }
    if (length > 12 && data[12] != LOCAL && data[12] != PROXY) {
        return -1;
    }
    if (length < V2_FIXED) {
        return 0;
    }
    const size_t whole = V2_FIXED + read_16(data + 14);
    if (whole > US_PROXY_MAX) {
        return -1;
    }
    if (length < whole) {
        return 0;
    }
    return data[12] == LOCAL || read_block(data, whole, header) ? (int) whole : -1;
}

int us_proxy_parse(const uint8_t *data, size_t length, us_proxy_header_t *header) {
    *header = {};
    if (length == 0) {
        return 0;
    }
    return data[0] == SIGNATURE[0] ? parse_v2(data, length, header) : parse_v1(data, length, header);
}
