#include "usockets/proxy/networks.h"

#include <string.h>

static bool matches(const us_network_t *network, const uint8_t *address) {
    const size_t whole = network->prefix / 8, rest = network->prefix % 8;
    if (memcmp(network->address, address, whole) != 0) {
        return false;
    }
    return rest == 0 || ((network->address[whole] ^ address[whole]) >> (8 - rest)) == 0;
}

bool us_networks_contain(const us_networks_t *networks, const uint8_t *address, size_t length) {
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    if (length == 0) {
        return networks->local;
    }
    if (length == 16 && memcmp(address, mapped, sizeof(mapped)) == 0) {
        address += sizeof(mapped);
        length = 4;
    }
    for (size_t i = 0; i < networks->count; i++) {
        if (networks->list[i].length == length && matches(&networks->list[i], address)) {
            return true;
        }
    }
    return false;
}
