#include "client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "process.h"

namespace load {

namespace {

// The key of RFC 6455 section 1.3, so that the right answer is known without SHA-1.
constexpr std::string_view kKey = "dGhlIHNhbXBsZSBub25jZQ==";
constexpr std::string_view kAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
constexpr double kStallSeconds = 30;

}  // namespace

Loop::Loop() : epoll_(epoll_create1(EPOLL_CLOEXEC)), buffer_(new char[kBuffer]) {
    if (epoll_ < 0) throw std::runtime_error(std::string("epoll_create1: ") + strerror(errno));
}

Loop::~Loop() { close(epoll_); }

void Loop::turn(double seconds) {
    epoll_event events[512];
    int count = epoll_wait(epoll_, events, 512, seconds < 0 ? 0 : static_cast<int>(std::ceil(seconds * 1e3)));
    for (int i = 0; i < count; i++) static_cast<Client *>(events[i].data.ptr)->handle(events[i].events);
}

Client::~Client() {
    if (fd_ >= 0) close(fd_);
}

void Client::fail(const std::string &what) const {
    throw std::runtime_error("connection " + std::to_string(index_) + ": " + what);
}

void Client::connect() {
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd_ < 0) fail(std::string("socket: ") + strerror(errno));
    int on = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(options_.port));
    if (inet_pton(AF_INET, options_.host.c_str(), &address.sin_addr) != 1)
        fail("not an IPv4 address: " + options_.host);
    if (::connect(fd_, reinterpret_cast<sockaddr *>(&address), sizeof(address)) != 0 && errno != EINPROGRESS) {
        fail(std::string("connect: ") + strerror(errno));
    }
    state_ = State::kConnecting;
    watch(EPOLLOUT, true);
}

void Client::watch(uint32_t events, bool add) {
    epoll_event event{};
    event.events = events;
    event.data.ptr = this;
    if (epoll_ctl(loop_.epoll_, add ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd_, &event) != 0) {
        fail(std::string("epoll_ctl: ") + strerror(errno));
    }
}

void Client::handle(uint32_t events) {
    if (state_ == State::kGone) return;
    if (state_ == State::kConnecting) {
        connected();
        return;
    }
    if (events & EPOLLOUT) flush();
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) read();
}

void Client::connected() {
    int error = 0;
    socklen_t size = sizeof(error);
    getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) fail(std::string("connect: ") + strerror(error));
    state_ = State::kHandshaking;
    watch(EPOLLIN);
    out_ = "GET " + options_.path + " HTTP/1.1\r\nHost: " + options_.host + ":" + std::to_string(options_.port) +
           "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " +
           std::string(kKey) + "\r\n\r\n";
    flush();
}

void Client::read() {
    ssize_t n = recv(fd_, loop_.buffer_.get(), Loop::kBuffer, 0);
    if (n < 0) {
        if (errno == EAGAIN || errno == EINTR) return;
        fail(std::string("recv: ") + strerror(errno));
    }
    if (n == 0) fail("the server closed the connection");
    std::string_view data(loop_.buffer_.get(), static_cast<size_t>(n));
    if (state_ == State::kHandshaking) data = read_handshake(data);
    if (state_ != State::kOpen) return;
    reader_.read(data, *this);
    on_readable_done();
    flush();
}

std::string_view Client::read_handshake(std::string_view data) {
    size_t before = handshake_.size();
    handshake_ += data;
    size_t end = handshake_.find("\r\n\r\n");
    if (end == std::string::npos) {
        if (handshake_.size() > 16384) fail("the answer to the handshake does not end");
        return {};
    }
    data.remove_prefix(end + 4 - before);
    handshake_.resize(end);
    if (!handshake_.starts_with("HTTP/1.1 101 ") || handshake_.find(kAccept) == std::string::npos) {
        fail("the handshake was refused: " + handshake_.substr(0, handshake_.find('\r')));
    }
    std::string().swap(handshake_);
    state_ = State::kOpen;
    on_open();
    return data;
}

void Client::on_control(Opcode opcode, std::string_view payload) {
    if (opcode == kPing) append_frame(out_, kPong, payload);
    if (opcode != kClose) return;
    int code = payload.size() < 2 ? 1005 : static_cast<uint8_t>(payload[0]) << 8 | static_cast<uint8_t>(payload[1]);
    fail("the server closed the WebSocket, code " + std::to_string(code));
}

void Client::flush() {
    while (sent_ < out_.size()) {
        ssize_t n = send(fd_, out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL);
        if (n >= 0) {
            sent_ += static_cast<size_t>(n);
            continue;
        }
        if (errno == EINTR) continue;
        if (errno != EAGAIN) fail(std::string("send: ") + strerror(errno));
        if (!waits_to_write_) watch(EPOLLIN | EPOLLOUT);
        waits_to_write_ = true;
        if (sent_ > Loop::kBuffer) {
            out_.erase(0, sent_);
            sent_ = 0;
        }
        return;
    }
    out_.clear();
    sent_ = 0;
    if (waits_to_write_) watch(EPOLLIN);
    waits_to_write_ = false;
}

void Client::abort() {
    if (fd_ < 0) return;
    linger reset{1, 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(fd_);
    fd_ = -1;
    state_ = State::kGone;
}

double open_all(Loop &loop, const std::vector<Client *> &clients, int concurrency) {
    double start = now(), progress = start;
    size_t begun = 0, done = 0;
    while (done < clients.size()) {
        size_t before = done;
        while (begun < clients.size() && begun < done + static_cast<size_t>(concurrency)) clients[begun++]->connect();
        loop.turn(1);
        // In order, so that the oldest one that is not open yet bounds the rest.
        while (done < begun && clients[done]->is_open()) done++;
        if (done != before) progress = now();
        if (now() - progress > kStallSeconds) throw std::runtime_error("no handshake was answered for 30 seconds");
    }
    return now() - start;
}

}  // namespace load
