// proxy/parse.cpp - the two formats of a PROXY header. A pure function over bytes; no more lenient than the specification.

#include "usockets/proxy/parse.h"

#include <arpa/inet.h>
#include <string.h>

static const uint8_t SIGNATURE[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};
static const char WORD[] = "PROXY ";

enum { V2_FIXED = 16, TLV_HEAD = 3, TLV_CRC32C = 3 };

// ---- version 1 ----

struct text_t {
    const char *at, *end;
};

// Takes the word up to the next space, or to the end when it is the last one.
static bool take_word(text_t *rest, bool last, text_t *word) {
    const char *space = (const char *) memchr(rest->at, ' ', (size_t) (rest->end - rest->at));
    if (last != (space == nullptr)) {
        return false;
    }
    *word = {rest->at, last ? rest->end : space};
    rest->at = last ? rest->end : space + 1;
    return word->at != word->end;
}

static bool read_address(text_t word, int family, uint8_t *address) {
    char text[INET6_ADDRSTRLEN];
    const size_t length = (size_t) (word.end - word.at);
    if (length >= sizeof(text) || memchr(word.at, 0, length)) {
        return false;
    }
    memcpy(text, word.at, length);
    text[length] = 0;
    return inet_pton(family, text, address) == 1;
}

static bool read_port(text_t word, uint16_t *port) {
    const size_t length = (size_t) (word.end - word.at);
    if (length > 5 || (length > 1 && *word.at == '0')) {
        return false;
    }
    unsigned value = 0;
    for (const char *c = word.at; c != word.end; c++) {
        if (*c < '0' || *c > '9') {
            return false;
        }
        value = value * 10 + (unsigned) (*c - '0');
    }
    *port = (uint16_t) value;
    return value <= 65535;
}

// The line without "PROXY " and CRLF.
static bool read_line(text_t rest, us_proxy_header_t *header) {
    const size_t length = (size_t) (rest.end - rest.at);
    if (length >= 7 && memcmp(rest.at, "UNKNOWN", 7) == 0) {
        return length == 7 || rest.at[7] == ' ';  // the rest must be ignored
    }
    text_t word;
    if (!take_word(&rest, false, &word) || word.end - word.at != 4 || memcmp(word.at, "TCP", 3) != 0) {
        return false;
    }
    const char digit = word.at[3];
    const int family = digit == '4' ? AF_INET : AF_INET6;
    uint8_t destination[16];
    uint16_t destination_port;
    if (digit != '4' && digit != '6') {
        return false;
    }
    header->ip_length = digit == '4' ? 4 : 16;
    header->has_address = true;
    return take_word(&rest, false, &word) && read_address(word, family, header->ip) && take_word(&rest, false, &word) &&
           read_address(word, family, destination) && take_word(&rest, false, &word) &&
           read_port(word, &header->port) && take_word(&rest, true, &word) && read_port(word, &destination_port);
}

static int parse_v1(const uint8_t *data, size_t length, us_proxy_header_t *header) {
    const size_t word = sizeof(WORD) - 1;
    if (memcmp(data, WORD, length < word ? length : word) != 0) {
        return -1;
    }
    const size_t searched = length < US_PROXY_V1_MAX ? length : (size_t) US_PROXY_V1_MAX;
    const uint8_t *feed = (const uint8_t *) memchr(data, '\n', searched);
    if (!feed) {
        return length >= US_PROXY_V1_MAX ? -1 : 0;
    }
    if (feed[-1] != '\r' || feed - 1 < data + word) {
        return -1;
    }
    const bool valid = read_line({(const char *) data + word, (const char *) feed - 1}, header);
    return valid ? (int) (feed + 1 - data) : -1;
}

// ---- version 2 ----

static unsigned read_16(const uint8_t *at) { return (unsigned) at[0] << 8 | at[1]; }

// CRC-32C (Castagnoli, as in RFC 9260 appendix A) of the header with the four bytes at `hole` as zero. Bit by bit is fast
// enough for some hundred bytes per connection.
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
            const uint32_t said = size == 4 ? (uint32_t) read_16(data + at) << 16 | read_16(data + at + 2) : 0;
            if (size != 4 || checksum(data, length, at) != said) {
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
    if (memcmp(data, SIGNATURE, length < sizeof(SIGNATURE) ? length : sizeof(SIGNATURE)) != 0) {
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
