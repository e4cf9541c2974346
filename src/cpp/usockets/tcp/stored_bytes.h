// tcp/stored_bytes.h - bytes between the kernel and the layer above, in one block. NULL: there are none.

#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct us_stored_bytes_t {
    uint32_t offset, length, capacity;  // the first `offset` bytes of `length` are consumed

    const char *data() const { return (const char *) (this + 1) + offset; }
};

static inline size_t us_stored_length(const us_stored_bytes_t *bytes) {
    return bytes ? bytes->length - bytes->offset : 0;
}

// The first bytes are gone; frees the block with the last.
static inline void us_stored_consume(us_stored_bytes_t *&bytes, size_t n) {
    bytes->offset += (uint32_t) n;
    if (bytes->offset == bytes->length) {
        free(bytes);
        bytes = nullptr;
    }
}

// Copies `data` behind the bytes; false when out of memory. A block has no spare room: few have more than one append.
bool us_stored_append(us_stored_bytes_t *&bytes, const void *data, size_t length);
