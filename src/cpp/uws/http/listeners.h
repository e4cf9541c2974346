// Where a server listens: one TCP port on any number of addresses, a unix path, or sockets that another process has
// bound.
//
// A server listens on all of its addresses or on none: after a failure the caller destroys the instance, and the
// listeners with it. Port 0 is one port for all addresses: the kernel chooses it for the first address, and if another
// address has it in use, all begin again. Owned by the Instance, whose HTTP context owns the sockets. Loop thread only.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "usockets/tcp/listen_fd.h"

namespace uwserve {

using ListenAddress = us_listen_address_t;

struct ListenError {
    int number = 0;  // errno; 0: the resolver failed
    int resolver_error = 0;  // EAI_*
    const char *host = nullptr;  // the one that failed: the caller's text, or none
};

class Listeners {
  public:
    void install(us_socket_context_t *http_context) { context_ = http_context; }

    // Numeric addresses or names. nullopt: the server listens. Throws std::bad_alloc, as the next two do.
    std::optional<ListenError> listen_tcp(const std::vector<std::string> &hosts, int port, bool reuse_port,
                                          bool ipv6_only);
    // Mode -1: the umask's.
    std::optional<ListenError> listen_unix(std::string_view path, int mode);
    // On success all descriptors are taken over; on failure those before the one that failed.
    std::optional<ListenError> listen_fds(const std::vector<int> &fds);
    void close();  // needs no memory

    bool is_empty() const { return listeners_.empty(); }
    std::vector<ListenAddress> addresses() const;
    std::vector<int> descriptors() const;

  private:
    std::optional<ListenError> add(us_listen_socket_t *listener);

    us_socket_context_t *context_ = nullptr;
    std::vector<us_listen_socket_t *> listeners_;
};

}  // namespace uwserve
