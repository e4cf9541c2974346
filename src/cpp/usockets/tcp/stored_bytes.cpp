#include "usockets/tcp/stored_bytes.h"

bool us_stored_append(us_stored_bytes_t *&bytes, const void *data, size_t length) {
    if (!bytes || bytes->capacity - bytes->length < length) {
        const size_t kept = us_stored_length(bytes), capacity = kept + length;
        us_stored_bytes_t *grown = (us_stored_bytes_t *) malloc(sizeof(us_stored_bytes_t) + capacity);
        if (!grown) {
            return false;
        }
        *grown = {0, (uint32_t) kept, (uint32_t) capacity};
        if (bytes) {
            memcpy(grown + 1, bytes->data(), kept);
            free(bytes);
        }
        bytes = grown;
    }
    memcpy((char *) (bytes + 1) + bytes->length, data, length);
    bytes->length += (uint32_t) length;
    return true;
}
