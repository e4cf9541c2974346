#include "uws/limits/limits.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <random>

#include "uws/http/connections.h"
#include "usockets/tcp/draining_close.h"
#include "usockets/tcp/read.h"

namespace uwserve {

namespace {

constexpr uint8_t kMappedPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255};  // RFC 4291 2.5.5.2

// IPv4 addresses get the multicast prefix of IPv6, from which no client connects.
uint64_t key_of(const uint8_t *ip, unsigned length) {
    if (length == 16 && memcmp(ip, kMappedPrefix, sizeof(kMappedPrefix)) == 0) {
        ip += sizeof(kMappedPrefix);
        length = 4;
    }
    uint64_t address = 0;
    for (unsigned i = 0; i < (length == 4 ? 4 : 8); i++) address = address << 8 | ip[i];
    return length == 4 ? address | 0xff00000000000000u : address;
}

}  // namespace

// --- addresses ---

AddressTable::AddressTable()
    : counts_(0, [] {
          std::random_device device;
          auto word = [&device] { return static_cast<uint64_t>(device()) << 32 | device(); };
          return Hash{{word(), word() | 1}};
      }()) {}

// A product of 128 bits, folded: every bit of the address and of the keys changes every bit of the result.
size_t AddressTable::Hash::operator()(uint64_t address) const {
    __extension__ using Wide = unsigned __int128;
    Wide product = static_cast<Wide>(address ^ keys[0]) * keys[1];
    uint64_t folded = static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
    product = static_cast<Wide>(folded ^ keys[1]) * (keys[0] | 1);
    return static_cast<size_t>(static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64));
}

uint32_t AddressTable::add(const uint8_t *ip, unsigned length) { return ++counts_[key_of(ip, length)]; }

void AddressTable::remove(const uint8_t *ip, unsigned length) {
    auto found = counts_.find(key_of(ip, length));
    if (found != counts_.end() && --found->second == 0) counts_.erase(found);
}

bool is_loopback(const uint8_t *ip, unsigned length) {
    static constexpr us_network_t loopback[] = {
        {{127}, 4, 8},
        {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 16, 128},
    };
    static constexpr us_networks_t networks{loopback, std::size(loopback), false};
    return us_networks_contain(&networks, ip, length);
}

// --- connections ---

void Limits::install(us_socket_context_t *http_context, us_socket_context_t *ws_context) {
    http_ = http_context;
    ws_ = ws_context;
    http_->cb.on_accept = on_accept;
    http_->cb.on_accept_error = on_accept_error;
    us_loop_on_change(http_->loop, [](void *self, us_socket_t *s) { static_cast<Limits *>(self)->charge(s); }, this);
}

bool Limits::has_room_for(us_socket_context_t *context, int fd, Refusal *cause) const {
    if (figures.first_reserved_fd && static_cast<uint32_t>(fd) >= figures.first_reserved_fd) [[unlikely]] {
        *cause = Refusal::kDescriptors;
        return false;
    }
    *cause = Refusal::kConnections;
    uint64_t open =
        uint64_t{context->num_sockets} + context->num_proxied + ws_->num_sockets + us_draining_count(http_->loop);
    return !figures.max_connections || open < figures.max_connections;
}

// If there is no room, the oldest draining connection ends, and the new one gets its descriptor: the peer of the old one
// has been answered, and draining it is optional.
int Limits::on_accept(us_socket_context_t *context, int *fd) {
    Limits &limits = static_cast<HttpConnections *>(context->user)->limits();
    Refusal cause;
    if (limits.has_room_for(context, *fd, &cause) || us_draining_make_room(context->loop, fd)) [[likely]]
        return 1;
    limits.refused(cause);
    return 0;
}

void Limits::on_accept_error(us_socket_context_t *context, int) {
    static_cast<HttpConnections *>(context->user)->limits().refused(Refusal::kAcceptErrors);
}

// The connection is counted whether or not there is a limit now, because reload() may set one.
bool Limits::address_opened(us_socket_t *s) {
    if (!s->ip_length) return true;  // a unix socket
    uint32_t count = addresses_.add(s->ip, s->ip_length);
    s->user_bits |= kAddressCounted;
    return admits(count, s->ip, s->ip_length);
}

bool Limits::admits(uint32_t count, const uint8_t *ip, unsigned length) {
    uint32_t max = figures.max_connections_per_address;
    if (!max || count <= max) [[likely]]
        return true;
    us_networks_t trusted = proxies.view();
    if ((figures.exempt_local && is_loopback(ip, length)) || us_networks_contain(&trusted, ip, length)) return true;
    refused(Refusal::kConnectionsPerAddress);
    return false;
}

void Limits::address_closed(us_socket_t *s) {
    if (s->user_bits & kAddressCounted) addresses_.remove(s->ip, s->ip_length);
    s->user_bits &= static_cast<uint8_t>(~kAddressCounted);
}

bool Limits::client_arrived(const ClientAddress &client) {
    if (admits(addresses_.add(client.ip, client.ip_length), client.ip, client.ip_length)) return true;
    client_left(client);
    return false;
}

void Limits::client_left(const ClientAddress &client) { addresses_.remove(client.ip, client.ip_length); }

void Limits::client_stays(us_socket_t *s, const ClientAddress &client) {
    address_closed(s);
    memcpy(s->ip, client.ip, sizeof(s->ip));
    s->ip_length = client.ip_length;
    s->remote_port = client.port;
    s->user_bits |= kAddressCounted;
}

// --- buffered bytes ---

size_t Limits::memory_of(us_socket_t *s) const {
    if (s->context == ws_) return buffered_of(s) + message_buffer_of(s).charge() + us_socket_unread_bytes(s);
    auto *conn = static_cast<HttpConnection *>(s->user);
    return buffered_of(s) + (conn ? conn->held.size() : 0);
}

void Limits::charge(us_socket_t *s) {
    if (s->closed) return;
    change_charge(s, static_cast<uint32_t>(std::min<size_t>(memory_of(s), UINT32_MAX)));
}

void Limits::change_charge(us_socket_t *s, uint32_t bytes) {
    if (bytes == s->charged) return;
    buffered_.store(buffered_.load(std::memory_order_relaxed) + bytes - s->charged, std::memory_order_relaxed);
    s->charged = bytes;
}

}  // namespace uwserve
