// A WebSocket client connection on an epoll loop, ws or wss, without threads or timers: the modes build on it.
//
// The loop and its clients belong to one thread. A client is opened by connect(), says so by on_open(), and from then on
// hands over what it receives through FrameReader's sink. All failures throw: a load generator that goes on after an error
// measures something else.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wire/frames.h"
#include "options.h"
#include "wire/outbox.h"
#include "wire/tls.h"

namespace load {

class Client;

class Loop {
  public:
    static constexpr size_t kBuffer = 512 * 1024;
    static constexpr size_t kPlain = 16 * 1024;  // a TLS record's

    explicit Loop(const Options &options);
    ~Loop();
    Loop(const Loop &) = delete;
    Loop &operator=(const Loop &) = delete;

    // Waits for events, at most `seconds`, and handles them.
    void turn(double seconds);
    void run_until(double end);
    // Any thread: ends the wait of turn().
    void wake();
    // When the read that is handled now came, in nanoseconds: one reading of the clock for all messages of a read.
    uint64_t read_at() const { return read_at_; }

  private:
    friend class Client;
    int epoll_, wake_;
    std::unique_ptr<char[]> buffer_;  // for the client that reads
    std::unique_ptr<char[]> plain_;  // for what it deciphers
    std::optional<TlsContext> tls_;
    uint64_t read_at_ = 0;
};

class Client : public FrameReader::Sink {
  public:
    Client(Loop &loop, const Options &options, uint32_t index, std::string path = {});
    ~Client() override;
    Client(const Client &) = delete;
    Client &operator=(const Client &) = delete;

    // Again after abort(), for another connection. `source` chooses the address that it comes from, where the server's is
    // a loopback one: 0 is the usual one, and each further one has ports of its own.
    void connect(uint32_t source = 0);
    // Queues bytes; flush() sends them. Everything queued while a read is handled goes out in one send after it.
    Outbox &out() { return out_; }
    void flush();
    size_t unsent() const { return out_.size() + (tls_ ? tls_->outgoing().size() : 0); }
    // Closes with a reset instead of FIN: leaves no port in TIME_WAIT. With `politely`, with a FIN.
    void abort(bool politely = false);

    bool is_open() const { return state_ == State::kOpen; }
    uint32_t index() const { return index_; }

  protected:
    virtual void on_open() {}
    virtual void on_readable_done() {}  // after everything of one read was handled, before the send
    // The server ended the connection, by a FIN (0) or an error of recv() or send(). Must abort() or throw.
    virtual void on_end(int error);
    void on_payload(Opcode, size_t, std::string_view) override {}
    void on_message(Opcode, size_t, bool) override {}
    void on_control(Opcode opcode, std::string_view payload) override;
    [[noreturn]] void fail(const std::string &what) const;
    Loop &loop() { return loop_; }
    const Options &options() const { return options_; }

    // For readers that take their time: no more reading but by receive(), of at most `limit` bytes; gives how many came.
    void stop_reading(int receive_buffer);
    void start_reading();
    size_t receive(size_t limit = Loop::kBuffer);

  private:
    friend class Loop;
    enum class State { kNew, kSecuring, kHandshaking, kOpen, kGone };
    void handle(uint32_t events);
    void bind_source(uint32_t source);
    void ask();  // sends the handshake
    void take(std::string_view data);
    void take_ciphertext(std::string_view data);
    std::string_view read_handshake(std::string_view data);  // what follows it
    void check_extensions() const;
    bool flush_plain();  // true: nothing is left
    bool flush_tls();
    bool would_block();  // after a failed send; false: try again
    void watch(bool add = false);

    Loop &loop_;
    const Options &options_;
    uint32_t index_;
    std::string path_;
    State state_ = State::kNew;
    int fd_ = -1;
    bool waits_to_write_ = false, reads_ = true;
    Outbox out_;
    std::string handshake_;
    std::unique_ptr<TlsSession> tls_;
    FrameReader reader_;
};

// The close code in a Close frame's payload, 1005 when there is none (RFC 6455 section 7.1.5).
int close_code(std::string_view payload);

// The source address for one of many connections: each has some 28,000 ports.
inline uint32_t source_of(uint32_t index) { return index / 20'000; }

// Opens all of them, options.concurrency at a time; returns the seconds that it took.
double open_all(Loop &loop, const std::vector<Client *> &clients, int concurrency);

}  // namespace load
