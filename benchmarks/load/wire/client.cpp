#include "wire/client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
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
constexpr size_t kCiphertext = 256 * 1024;  // sent with one call

// The value of a field of an HTTP head, empty when it has none.
std::string_view field(std::string_view head, std::string_view name) {
    for (size_t at = head.find("\r\n"); at != std::string_view::npos; at = head.find("\r\n", at)) {
        std::string_view line = head.substr(at += 2);
        line = line.substr(0, line.find("\r\n"));
        if (line.size() <= name.size() || line[name.size()] != ':') continue;
        if (strncasecmp(line.data(), name.data(), name.size()) != 0) continue;
        line.remove_prefix(name.size() + 1);
        while (!line.empty() && line.front() == ' ') line.remove_prefix(1);
        return line;
    }
    return {};
}

}  // namespace

Loop::Loop(const Options &options)
    : epoll_(epoll_create1(EPOLL_CLOEXEC)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      buffer_(new char[kBuffer]),
      plain_(new char[kPlain]) {
    if (epoll_ < 0 || wake_ < 0) throw std::runtime_error(std::string("epoll: ") + strerror(errno));
    epoll_event event{};
    event.events = EPOLLIN;  // data.ptr is nullptr
    epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &event);
    if (options.tls) tls_.emplace();
}

Loop::~Loop() {
    close(epoll_);
    close(wake_);
}

void Loop::wake() {
    uint64_t one = 1;
    (void) !write(wake_, &one, sizeof(one));
}

void Loop::turn(double seconds) {
    epoll_event events[512];
    int count = epoll_wait(epoll_, events, 512, seconds < 0 ? 0 : static_cast<int>(std::ceil(seconds * 1e3)));
    for (int i = 0; i < count; i++) {
        if (auto *client = static_cast<Client *>(events[i].data.ptr)) {
            client->handle(events[i].events);
        } else {
            uint64_t ignored;
            (void) !::read(wake_, &ignored, sizeof(ignored));
        }
    }
}

void Loop::run_until(double end) {
    for (double left = end - now(); left > 0; left = end - now()) turn(left);
}

Client::Client(Loop &loop, const Options &options, uint32_t index, std::string path)
    : loop_(loop),
      options_(options),
      index_(index),
      path_(path.empty() ? options.path : std::move(path)),
      reader_(options.deflate) {}

Client::~Client() {
    if (fd_ >= 0) close(fd_);
}

void Client::fail(const std::string &what) const {
    throw std::runtime_error("connection " + std::to_string(index_) + ": " + what);
}

void Client::on_end(int error) {
    if (error == ECONNREFUSED) fail(std::string("connect: ") + strerror(error));
    fail(error ? std::string("the connection broke: ") + strerror(error) : "the server closed the connection");
}

void Client::bind_source(uint32_t source) {
    // The port is chosen by connect(), where the pair of both ends decides what is free.
    int on = 1;
    setsockopt(fd_, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    sockaddr_in from{};
    from.sin_family = AF_INET;
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + source % 0xff0000);
    if (bind(fd_, reinterpret_cast<sockaddr *>(&from), sizeof(from)) != 0)
        fail(std::string("bind: ") + strerror(errno));
}

void Client::connect(uint32_t source) {
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd_ < 0) fail(std::string("socket: ") + strerror(errno));
    int on = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(options_.port));
    if (inet_pton(AF_INET, options_.host.c_str(), &address.sin_addr) != 1)
        fail("not an IPv4 address: " + options_.host);
    if (source && ntohl(address.sin_addr.s_addr) >> 24 == 127) bind_source(source);
    if (::connect(fd_, reinterpret_cast<sockaddr *>(&address), sizeof(address)) != 0 && errno != EINPROGRESS) {
        fail(std::string("connect: ") + strerror(errno));
    }
    reader_ = FrameReader(options_.deflate);
    if (loop_.tls_) {
        state_ = State::kSecuring;
        tls_ = std::make_unique<TlsSession>(*loop_.tls_);
        tls_->handshake();
    } else {
        ask();
    }
    // On the loopback the connection stands when connect() returns, so this is worth a try; otherwise it waits.
    reads_ = true;
    waits_to_write_ = !(tls_ ? flush_tls() : flush_plain());
    watch(true);
}

void Client::watch(bool add) {
    epoll_event event{};
    event.events = (reads_ ? EPOLLIN : 0u) | (waits_to_write_ ? EPOLLOUT : 0u);
    event.data.ptr = this;
    if (epoll_ctl(loop_.epoll_, add ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd_, &event) != 0) {
        fail(std::string("epoll_ctl: ") + strerror(errno));
    }
}

void Client::handle(uint32_t events) {
    if (state_ == State::kGone) return;
    if (events & EPOLLOUT) flush();
    if (state_ != State::kGone && (events & (EPOLLIN | EPOLLERR | EPOLLHUP))) receive();
}

void Client::ask() {
    state_ = State::kHandshaking;
    out_.own() += "GET " + path_ + " HTTP/1.1\r\nHost: " + options_.host + ":" + std::to_string(options_.port) +
                  "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " +
                  std::string(kKey) + "\r\n";
    if (options_.deflate) {
        out_.own() +=
            "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover\r\n";
    }
    out_.own() += "\r\n";
}

size_t Client::receive(size_t limit) {
    ssize_t n = recv(fd_, loop_.buffer_.get(), std::min(limit, Loop::kBuffer), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (n <= 0) {
        on_end(n < 0 ? errno : 0);
        return 0;
    }
    loop_.read_at_ = now_ns();
    std::string_view data(loop_.buffer_.get(), static_cast<size_t>(n));
    if (tls_) {
        take_ciphertext(data);
    } else {
        take(data);
    }
    if (state_ == State::kOpen) on_readable_done();
    if (state_ != State::kGone) flush();
    return static_cast<size_t>(n);
}

void Client::take(std::string_view data) {
    if (state_ == State::kHandshaking) data = read_handshake(data);
    if (state_ == State::kOpen && !data.empty()) reader_.read(data, *this);
}

void Client::take_ciphertext(std::string_view data) {
    tls_->feed(data);
    if (state_ == State::kSecuring) {
        if (!tls_->handshake()) return;
        ask();
    }
    while (size_t n = tls_->read(loop_.plain_.get(), Loop::kPlain)) {
        take(std::string_view(loop_.plain_.get(), n));
        if (state_ == State::kGone) return;
    }
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
    if (!handshake_.starts_with("HTTP/1.1 101 ") || field(handshake_, "Sec-WebSocket-Accept") != kAccept) {
        fail("the handshake was refused: " + handshake_.substr(0, handshake_.find('\r')));
    }
    check_extensions();
    std::string().swap(handshake_);
    state_ = State::kOpen;
    on_open();
    return data;
}

void Client::check_extensions() const {
    std::string_view agreed = field(handshake_, "Sec-WebSocket-Extensions");
    if (!options_.deflate) {
        if (!agreed.empty()) fail("the server agreed to an extension that was not offered: " + std::string(agreed));
        return;
    }
    // RFC 7692 section 7.1.1.1: a server that accepts the offer confirms this parameter.
    if (!agreed.starts_with("permessage-deflate") || agreed.find("server_no_context_takeover") == agreed.npos) {
        fail("compression without context takeover was not agreed to, but '" + std::string(agreed) + "'");
    }
}

int close_code(std::string_view payload) {
    return payload.size() < 2 ? 1005 : static_cast<uint8_t>(payload[0]) << 8 | static_cast<uint8_t>(payload[1]);
}

void Client::on_control(Opcode opcode, std::string_view payload) {
    if (opcode == kPing) append_frame(out_.own(), kPong, payload);
    if (opcode == kClose) fail("the server closed the WebSocket, code " + std::to_string(close_code(payload)));
}

void Client::flush() {
    bool all = tls_ ? flush_tls() : flush_plain();
    if (state_ == State::kGone || all == !waits_to_write_) return;
    waits_to_write_ = !all;
    watch();
}

bool Client::would_block() {
    if (errno == EINTR) return false;
    if (errno != EAGAIN) on_end(errno);
    return true;
}

bool Client::flush_plain() {
    iovec pieces[64];
    while (!out_.empty()) {
        int count = out_.peek(pieces, 64);
        msghdr message{};
        message.msg_iov = pieces;
        message.msg_iovlen = static_cast<size_t>(count);
        ssize_t n = count == 1 ? send(fd_, pieces[0].iov_base, pieces[0].iov_len, MSG_NOSIGNAL)
                               : sendmsg(fd_, &message, MSG_NOSIGNAL);
        if (n >= 0) {
            out_.consume(static_cast<size_t>(n));
        } else if (would_block()) {
            return false;
        }
    }
    return true;
}

bool Client::flush_tls() {
    std::string &ciphertext = tls_->outgoing();
    bool is_ready = state_ == State::kHandshaking || state_ == State::kOpen;
    while (!ciphertext.empty() || (is_ready && !out_.empty())) {
        while (is_ready && !out_.empty() && ciphertext.size() < kCiphertext) {
            iovec piece;
            out_.peek(&piece, 1);
            size_t size = std::min(piece.iov_len, kCiphertext);
            tls_->write(static_cast<const char *>(piece.iov_base), size);
            out_.consume(size);
        }
        ssize_t n = send(fd_, ciphertext.data(), ciphertext.size(), MSG_NOSIGNAL);
        if (n >= 0) {
            ciphertext.erase(0, static_cast<size_t>(n));
        } else if (would_block()) {
            return false;
        }
    }
    return true;
}

void Client::stop_reading(int receive_buffer) {
    setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
    reads_ = false;
    watch();
}

void Client::start_reading() {
    reads_ = true;
    watch();
}

void Client::abort(bool politely) {
    state_ = State::kGone;
    if (fd_ < 0) return;
    linger reset{1, 0};
    if (!politely) setsockopt(fd_, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(fd_);
    fd_ = -1;
    out_.clear();
    tls_.reset();
}

double open_all(Loop &loop, const std::vector<Client *> &clients, int concurrency) {
    double start = now(), progress = start;
    size_t begun = 0, done = 0;
    while (done < clients.size()) {
        size_t before = done;
        while (begun < clients.size() && begun < done + static_cast<size_t>(concurrency)) {
            clients[begun]->connect(source_of(clients[begun]->index()));
            begun++;
        }
        loop.turn(1);
        // In order, so that the oldest one that is not open yet bounds the rest.
        while (done < begun && clients[done]->is_open()) done++;
        if (done != before) progress = now();
        if (now() - progress > kStallSeconds) throw std::runtime_error("no handshake was answered for 30 seconds");
    }
    return now() - start;
}

}  // namespace load
