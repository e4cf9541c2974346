// tcp/listen_unix.cpp - listening at a path, or at an abstract name.
//
// A path is published in one step, ready for use: the socket is bound to a temporary name in the same folder, gets its
// permission bits, listens, and only then is renamed into place. So the path never has the wrong mode and never refuses
// connections, the umask (of the whole process) stays as it is, and replacing a stale socket leaves no gap.
//
// An existing file at the path: if it is not a socket (a symbolic link included), EEXIST, and it is never removed; if a
// server accepts connections on it, EADDRINUSE; if it refuses connections, it is stale and replaced. At close the path
// is removed only if it is still our inode: another server may have replaced it in the meantime.

#include "usockets/tcp/listen_unix.h"

#include "usockets/loop/state.h"
#include "usockets/tcp/listen.h"

#include <string_view>

// A path needs a terminating NUL in sun_path; an abstract name does not, but has the same limit for simplicity.
constexpr size_t MAX_PATH_LENGTH = sizeof(sockaddr_un::sun_path) - 1;

static bool set_address(sockaddr_un *address, const char *path, size_t length) {
    if (length > MAX_PATH_LENGTH) {
        errno = ENAMETOOLONG;
        return false;
    }
    *address = {};
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, path, length);
    return true;
}

static us_listen_socket_t *fail(int fd, const char *temporary) {
    us_keep_errno_t keep;
    if (temporary) {
        us_sys_unlink(temporary);
    }
    if (fd >= 0) {
        us_sys_close(fd);
    }
    return nullptr;
}

static us_listen_socket_t *listen_abstract(us_socket_context_t *context, const char *name, size_t length,
                                           int socket_ext_size) {
    sockaddr_un address;
    if (!set_address(&address, name, length)) {
        return nullptr;
    }
    const int fd = us_sys_socket(AF_UNIX);
    if (fd < 0 || us_sys_bind(fd, (sockaddr *) &address, (socklen_t) (offsetof(sockaddr_un, sun_path) + length)) != 0 ||
        us_sys_listen(fd, US_BACKLOG) != 0) {
        return fail(fd, nullptr);
    }
    us_listen_socket_t *listener = us_listener_new(context, fd, socket_ext_size);
    return listener ? listener : fail(fd, nullptr);
}

// Whether the socket at this path may be replaced; if not, errno has the reason.
static bool is_stale(const sockaddr_un *address) {
    const int probe = us_sys_socket(AF_UNIX);
    if (probe < 0) {
        return false;
    }
    const int answer = us_sys_connect(probe, (const sockaddr *) address, sizeof(*address));
    const int error = answer == 0 ? EADDRINUSE : errno;
    us_sys_close(probe);
    errno = error == EACCES ? EACCES : EADDRINUSE;  // EAGAIN: a full backlog; EPROTOTYPE: a datagram server
    return error == ECONNREFUSED;
}

// Moves the temporary name over `path` under the rules above.
static bool publish(const char *temporary, const sockaddr_un *address) {
    const char *path = address->sun_path;
    for (int attempt = 0; attempt < 3; attempt++) {
        struct stat st;
        const bool exists = us_sys_lstat(path, &st) == 0;
        if (!exists && errno != ENOENT) {
            return false;
        }
        if (exists && !S_ISSOCK(st.st_mode)) {
            errno = EEXIST;
            return false;
        }
        if (exists && !is_stale(address)) {
            return false;
        }
        if (us_sys_rename(temporary, path, exists) == 0) {
            return true;
        }
        if (!exists && (errno == EINVAL || errno == ENOSYS)) {
            return us_sys_rename(temporary, path, true) == 0;  // a file system without RENAME_NOREPLACE
        }
        if (errno != EEXIST) {
            return false;
        }
        // another process was faster: check its file
    }
    return false;
}

// A name in the folder of `path`, and its address for bind(): direct or, if too long, through the folder's descriptor,
// which the caller closes.
static bool temporary_name(const char *path, size_t length, char *name, size_t name_size, sockaddr_un *address,
                           int *folder) {
    static std::atomic<unsigned> counter{0};
    const size_t base = std::string_view(path, length).rfind('/') + 1;  // npos + 1 is 0
    char tail[40];
    const unsigned salt = counter.fetch_add(1, std::memory_order_relaxed) ^ (unsigned) us_sys_now_ns();
    snprintf(tail, sizeof(tail), ".us-%x-%08x", (unsigned) getpid(), salt);
    snprintf(name, name_size, "%.*s%s", (int) base, path, tail);
    *folder = -1;
    if (strlen(name) <= MAX_PATH_LENGTH) {
        return set_address(address, name, strlen(name));
    }
    char folder_path[MAX_PATH_LENGTH + 2];
    snprintf(folder_path, sizeof(folder_path), "%.*s", (int) base, path);
    *folder = us_sys_open_folder(folder_path);
    if (*folder < 0) {
        return false;
    }
    char indirect[80];
    snprintf(indirect, sizeof(indirect), "/proc/self/fd/%d/%s", *folder, tail);
    return set_address(address, indirect, strlen(indirect));
}

static us_listen_socket_t *listen_path(us_socket_context_t *context, const sockaddr_un *address, size_t length,
                                       int mode, int socket_ext_size) {
    char temporary[MAX_PATH_LENGTH + 48];
    sockaddr_un bound;
    int folder = -1;
    if (!temporary_name(address->sun_path, length, temporary, sizeof(temporary), &bound, &folder)) {
        return nullptr;
    }
    const int fd = us_sys_socket(AF_UNIX);
    const bool is_bound = fd >= 0 && us_sys_bind(fd, (const sockaddr *) &bound, sizeof(bound)) == 0;
    if (folder >= 0) {
        us_sys_close(folder);
    }
    if (!is_bound) {
        return fail(fd, nullptr);
    }
    struct stat st;
    if ((mode >= 0 && us_sys_chmod(temporary, (mode_t) mode) != 0) || us_sys_listen(fd, US_BACKLOG) != 0 ||
        us_sys_lstat(temporary, &st) != 0) {
        return fail(fd, temporary);
    }
    us_listen_socket_t *listener = us_listener_new(context, fd, socket_ext_size);
    if (!listener) {
        return fail(fd, temporary);
    }
    if (!publish(temporary, address)) {
        us_keep_errno_t keep;
        us_listen_socket_close(0, listener);
        us_sys_unlink(temporary);
        return nullptr;
    }
    listener->device = st.st_dev;
    listener->inode = st.st_ino;
    memcpy(listener->path, address->sun_path, length + 1);
    return listener;
}

void us_listener_unpublish(us_listen_socket_t *listener) {
    struct stat st;
    if (listener->path[0] && us_sys_lstat(listener->path, &st) == 0 && st.st_dev == listener->device &&
        st.st_ino == listener->inode) {
        us_sys_unlink(listener->path);
    }
    listener->path[0] = 0;
}

us_listen_socket_t *us_listen_unix(us_socket_context_t *context, const char *path, size_t path_length, int mode,
                                   int socket_ext_size) {
    sockaddr_un address;
    if (context->loop->error || !path_length) {
        errno = context->loop->error ? context->loop->error : EINVAL;
        return nullptr;
    }
    if (path[0] == 0) {
        return listen_abstract(context, path, path_length, socket_ext_size);
    }
    if (memchr(path, 0, path_length)) {
        errno = EINVAL;
        return nullptr;
    }
    return set_address(&address, path, path_length) ? listen_path(context, &address, path_length, mode, socket_ext_size)
                                                    : nullptr;
}
