// Where a server listens: one TCP port on any number of addresses, a unix path, or sockets that others have bound.
//
// All or nothing: a server that listens on some of its addresses only would be taken for one that listens on all. Port 0 is
// one port for all: the first address gets one from the kernel, and if another address has it in use, all begin again.
#include <netdb.h>

#include <algorithm>
#include <cerrno>

#include "py/server/core.h"
#include "usockets/tcp/listen.h"
#include "usockets/tcp/listen_unix.h"

namespace uwserve {

namespace {

constexpr int kHttpSocketBytes = sizeof(uWS::HttpResponseData<false>);

// How often a port that the kernel has chosen for one address may be in use at another.
constexpr int kPortTries = 32;

bool os_error(int error, const char *where = nullptr) {
    errno = error;
    PyErr_SetFromErrnoWithFilename(PyExc_OSError, where);
    return false;
}

// socket.gaierror(code, text), as socket.bind() would raise.
bool name_error(int gai) {
    Ref module = Ref::steal(guarded<PyImport_ImportModule>("socket"));
    Ref type = module ? Ref::steal(guarded<PyObject_GetAttrString>(module.get(), "gaierror")) : Ref();
    if (!type) return false;
    Ref value = Ref::steal(guarded<Py_BuildValue>("(is)", gai, gai_strerror(gai)));
    if (value) PyErr_SetObject(type.get(), value.get());
    return false;
}

// The machine has no such family, or has it switched off: what a name has there is left out, if it has something else.
bool is_of_the_family(int error) { return error == EADDRNOTAVAIL || error == EAFNOSUPPORT; }

}  // namespace

bool ServerCore::make_engine() {
    if (instance || finished) {
        PyErr_SetString(PyExc_RuntimeError, "this server was already bound");
        return false;
    }
    if (!check_hooked()) return false;
    instance = Instance::create(*this, *this, limits);
    if (!instance) return os_error(errno);
    stop.make_timer();
    us_loop_on_release(instance->loop(), on_release, this);
    limits.refusals.install(instance->loop(), on_report, this);
    apply_options();
    if (tls_) us_socket_context_set_tls(instance->http_context(), tls_.get());
    return true;
}

// Ends what make_engine() has begun.
bool ServerCore::cannot_listen(int error, int gai, const char *where) {
    listeners.clear();  // they go with the instance
    stop.forget_timer();
    instance.reset();
    finished = true;
    return error ? os_error(error, where) : name_error(gai);
}

void ServerCore::close_listeners() {
    for (us_listen_socket_t *listener : std::exchange(listeners, {})) us_listen_socket_close(0, listener);
}

bool ServerCore::listen_tcp(const std::vector<std::string> &hosts, int port, bool reuse_port, bool ipv6_only) {
    if (!make_engine()) return false;
    int flags = reuse_port ? LIBUS_LISTEN_DEFAULT : LIBUS_LISTEN_EXCLUSIVE_PORT;
    for (int tries = kPortTries;;) {
        const char *failed = nullptr;
        int error = 0, gai = 0;
        local_port = port;
        for (const std::string &host : hosts) {
            // Beside others, an IPv6 socket must leave the IPv4 addresses to IPv4 sockets.
            bool is_v6_only = hosts.size() > 1 ? host.find(':') != std::string::npos : ipv6_only;
            errno = 0;
            us_listen_socket_t *made =
                us_socket_context_listen(0, instance->http_context(), host.c_str(), local_port,
                                         flags | (is_v6_only ? LIBUS_LISTEN_IPV6_ONLY : 0), kHttpSocketBytes);
            if (made) {
                listeners.push_back(made);
                local_port = us_socket_local_port(0, reinterpret_cast<us_socket_t *>(made));
                continue;
            }
            bool is_first = !failed;
            if (is_first || !is_of_the_family(errno)) {
                error = errno;
                gai = us_gai_error();
                failed = host.c_str();
            }
            if (!is_of_the_family(error)) break;
        }
        if (!failed || (is_of_the_family(error) && !listeners.empty())) return true;
        if (port || error != EADDRINUSE || !--tries) return cannot_listen(error, gai, failed);
        close_listeners();
    }
}

bool ServerCore::listen_unix(std::string_view path, int mode) {
    if (!make_engine()) return false;
    errno = 0;
    us_listen_socket_t *made =
        us_listen_unix(instance->http_context(), path.data(), path.size(), mode, kHttpSocketBytes);
    if (!made) return cannot_listen(errno, 0, nullptr);
    listeners.push_back(made);
    return true;
}

bool ServerCore::listen_fds(const std::vector<int> &fds) {
    if (!make_engine()) return false;
    for (int fd : fds) {
        us_listen_address_t where;
        us_listen_socket_t *made = us_listen_fd(instance->http_context(), fd, kHttpSocketBytes, &where);
        if (!made) return cannot_listen(errno, 0, nullptr);
        listeners.push_back(made);
        local_port = std::max(where.port, 0);
    }
    return true;
}

std::vector<us_listen_address_t> ServerCore::addresses() const {
    std::vector<us_listen_address_t> found;
    for (us_listen_socket_t *listener : listeners) {
        us_listen_address_t where;
        if (us_listen_socket_address(listener, &where)) found.push_back(where);
    }
    return found;
}

std::vector<int> ServerCore::listening_descriptors() const {
    std::vector<int> found;
    for (us_listen_socket_t *listener : listeners) found.push_back(us_listen_socket_fd(listener));
    return found;
}

}  // namespace uwserve
