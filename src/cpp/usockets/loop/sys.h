// loop/sys.h - all system calls of the socket layer.
//
// Each goes through a wrapper below, so that a test build can count calls, make the N-th one fail, or shorten a
// transfer (compile definition USOCKETS_FAULT_INJECTION and `us_sys_hook`). In a normal build the check is a constant
// false and each wrapper is the bare call: no cost.
//
// The hook returns the errno to fail with, or 0 to let the call through; it may lower *length of a transfer. close() is
// always carried out even when it is made to "fail", as on Linux a failed close() has released the descriptor, too.
//
// Transfers are repeated when a signal interrupts them, so no caller sees EINTR of one.

#pragma once

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum us_sys_call_t {
    US_SYS_SOCKET,
    US_SYS_SETSOCKOPT,
    US_SYS_BIND,
    US_SYS_LISTEN,
    US_SYS_ACCEPT,
    US_SYS_CONNECT,
    US_SYS_GETSOCKNAME,
    US_SYS_GETSOCKOPT,
    US_SYS_RECV,
    US_SYS_SEND,
    US_SYS_SENDMSG,
    US_SYS_SHUTDOWN,
    US_SYS_CLOSE,
    US_SYS_EPOLL_CREATE,
    US_SYS_EPOLL_CTL,
    US_SYS_EPOLL_WAIT,
    US_SYS_EVENTFD,
    US_SYS_EVENTFD_WRITE,
    US_SYS_TIMERFD_CREATE,
    US_SYS_TIMERFD_SETTIME,
    US_SYS_LSTAT,
    US_SYS_CHMOD,
    US_SYS_RENAME,
    US_SYS_UNLINK,
    US_SYS_OPEN,
    US_SYS_FCNTL,
    US_SYS_DUP,
    US_SYS_COUNT
};

#ifdef USOCKETS_FAULT_INJECTION
inline int (*us_sys_hook)(us_sys_call_t call, size_t *length) = nullptr;

static inline bool us_sys_fails(us_sys_call_t call, size_t *length = nullptr) {
    int error = us_sys_hook ? us_sys_hook(call, length) : 0;
    if (error) {
        errno = error;
    }
    return error != 0;
}
#else
static inline constexpr bool us_sys_fails(us_sys_call_t, size_t * = nullptr) { return false; }
#endif

// A function of libc, with injected failures and nothing else.
template <us_sys_call_t Call, auto Function>
struct us_sys_plain_t {
    template <typename... Args>
    [[gnu::always_inline]] int operator()(Args... args) const {
        return us_sys_fails(Call) ? -1 : Function(args...);
    }
};

constexpr us_sys_plain_t<US_SYS_BIND, bind> us_sys_bind;
constexpr us_sys_plain_t<US_SYS_LISTEN, listen> us_sys_listen;
constexpr us_sys_plain_t<US_SYS_ACCEPT, accept4> us_sys_accept4;
constexpr us_sys_plain_t<US_SYS_CONNECT, connect> us_sys_connect;
constexpr us_sys_plain_t<US_SYS_GETSOCKNAME, getsockname> us_sys_getsockname;
constexpr us_sys_plain_t<US_SYS_SHUTDOWN, shutdown> us_sys_shutdown;
constexpr us_sys_plain_t<US_SYS_DUP, dup3> us_sys_dup3;
constexpr us_sys_plain_t<US_SYS_EPOLL_CREATE, epoll_create1> us_sys_epoll_create1;
constexpr us_sys_plain_t<US_SYS_EPOLL_CTL, epoll_ctl> us_sys_epoll_ctl;
constexpr us_sys_plain_t<US_SYS_EPOLL_WAIT, epoll_wait> us_sys_epoll_wait;
constexpr us_sys_plain_t<US_SYS_EVENTFD, eventfd> us_sys_eventfd;
constexpr us_sys_plain_t<US_SYS_TIMERFD_CREATE, timerfd_create> us_sys_timerfd_create;
constexpr us_sys_plain_t<US_SYS_LSTAT, lstat> us_sys_lstat;
constexpr us_sys_plain_t<US_SYS_CHMOD, chmod> us_sys_chmod;
constexpr us_sys_plain_t<US_SYS_UNLINK, unlink> us_sys_unlink;

static inline int us_sys_socket(int family) {
    return us_sys_fails(US_SYS_SOCKET) ? -1 : socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

static inline int us_sys_setsockopt(int fd, int level, int name, int value) {
    return us_sys_fails(US_SYS_SETSOCKOPT) ? -1 : setsockopt(fd, level, name, &value, sizeof(value));
}

// Makes close() send a reset and drop the connection.
static inline int us_sys_reset_on_close(int fd) {
    const linger reset = {1, 0};
    return us_sys_fails(US_SYS_SETSOCKOPT) ? -1 : setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
}

template <typename T>
inline int us_sys_getsockopt(int fd, int level, int name, T *value) {
    socklen_t length = sizeof(*value);
    return us_sys_fails(US_SYS_GETSOCKOPT) ? -1 : getsockopt(fd, level, name, value, &length);
}

template <typename F>
[[gnu::always_inline]] inline ssize_t us_sys_repeat(F call) {
    ssize_t n;
    do {
        n = call();
    } while (n < 0 && errno == EINTR);
    return n;
}

// recv, send and sendmsg bypass libc, where they are cancellation points: once a process has had a second thread,
// entering and leaving those costs some ninety instructions per message, and this thread is never cancelled.
static inline ssize_t us_sys_recv(int fd, void *data, size_t length, int flags) {
    return us_sys_repeat([&]() -> ssize_t {
        return us_sys_fails(US_SYS_RECV, &length) ? -1
                                                  : syscall(SYS_recvfrom, fd, data, length, flags, nullptr, nullptr);
    });
}

static inline ssize_t us_sys_send(int fd, const void *data, size_t length, int more = 0) {
    const int flags = MSG_NOSIGNAL | more;
    return us_sys_repeat([&]() -> ssize_t {
        return us_sys_fails(US_SYS_SEND, &length) ? -1 : syscall(SYS_sendto, fd, data, length, flags, nullptr, 0);
    });
}

// All parts in one call.
static inline ssize_t us_sys_sendmsg(int fd, iovec *parts, size_t count, int more = 0) {
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = count;
    return us_sys_repeat([&]() -> ssize_t {
#ifdef USOCKETS_FAULT_INJECTION
        size_t total = 0;
        for (size_t i = 0; i < count; i++) {
            total += parts[i].iov_len;
        }
        if (us_sys_fails(US_SYS_SENDMSG, &total)) {
            return -1;
        }
        for (size_t i = 0; i < count; i++) {
            parts[i].iov_len = parts[i].iov_len < total ? parts[i].iov_len : total;
            total -= parts[i].iov_len;
        }
#endif
        return syscall(SYS_sendmsg, fd, &message, MSG_NOSIGNAL | more);
    });
}

// Restores errno at the end of the scope, for the clean-up after a failure.
struct us_keep_errno_t {
    const int error = errno;
    ~us_keep_errno_t() { errno = error; }
};

// Keeps errno: most callers close because of an error.
static inline void us_sys_close(int fd) {
    us_keep_errno_t keep;
    (void) us_sys_fails(US_SYS_CLOSE);
    close(fd);
}

static inline ssize_t us_sys_eventfd_signal(int fd) {
    const uint64_t one = 1;
    return us_sys_repeat([&] { return us_sys_fails(US_SYS_EVENTFD_WRITE) ? -1 : write(fd, &one, sizeof(one)); });
}

static inline int us_sys_timerfd_set(int fd, uint64_t at_ns) {
    itimerspec spec{};
    spec.it_value.tv_sec = (time_t) (at_ns / 1'000'000'000);
    spec.it_value.tv_nsec = (long) (at_ns % 1'000'000'000);
    return us_sys_fails(US_SYS_TIMERFD_SETTIME) ? -1 : timerfd_settime(fd, TFD_TIMER_ABSTIME, &spec, nullptr);
}

// If `replace` is false, fails with EEXIST when `to` exists. A plain syscall, as glibc has renameat2() only since 2.28.
static inline int us_sys_rename(const char *from, const char *to, bool replace) {
    if (us_sys_fails(US_SYS_RENAME)) {
        return -1;
    }
    return replace ? rename(from, to)
                   : (int) syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 1u /* RENAME_NOREPLACE */);
}

static inline int us_sys_open_folder(const char *path) {
    return us_sys_fails(US_SYS_OPEN) ? -1 : open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static inline int us_sys_make_nonblocking(int fd) {
    if (us_sys_fails(US_SYS_FCNTL) || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        return -1;
    }
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

static inline uint64_t us_sys_clock_ns(clockid_t clock) {
    timespec now;
    clock_gettime(clock, &now);
    return (uint64_t) now.tv_sec * 1'000'000'000 + (uint64_t) now.tv_nsec;
}

static inline uint64_t us_sys_now_ns() { return us_sys_clock_ns(CLOCK_MONOTONIC); }

// The value of the same clock at the kernel's last tick: a fifth of the cost.
static inline uint64_t us_sys_coarse_ns() { return us_sys_clock_ns(CLOCK_MONOTONIC_COARSE); }
