// A WebSocket client connection on an epoll loop, without threads or timers: the modes build on it.
//
// The loop and its clients belong to one thread. A client is opened by connect(), says so by on_open(), and from then on
// hands over what it receives through FrameReader's sink. All failures throw: a load generator that goes on after an error
// measures something else.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "frames.h"
#include "options.h"

namespace load {

class Client;

class Loop {
  public:
    static constexpr size_t kBuffer = 512 * 1024;

    Loop();
    ~Loop();
    Loop(const Loop &) = delete;
    Loop &operator=(const Loop &) = delete;

    // Waits for events, at most `seconds`, and handles them.
    void turn(double seconds);

  private:
    friend class Client;
    int epoll_;
    std::unique_ptr<char[]> buffer_;  // for the client that reads
};

class Client : public FrameReader::Sink {
  public:
    Client(Loop &loop, const Options &options, uint32_t index) : loop_(loop), options_(options), index_(index) {}
    ~Client() override;
    Client(const Client &) = delete;
    Client &operator=(const Client &) = delete;

    void connect();
    // Queues bytes; flush() sends them. Everything queued while a read is handled goes out in one send after it.
    std::string &out() { return out_; }
    void flush();
    size_t unsent() const { return out_.size() - sent_; }
    // Reset instead of FIN: leaves no port in TIME_WAIT.
    void abort();

    bool is_open() const { return state_ == State::kOpen; }
    uint32_t index() const { return index_; }

  protected:
    virtual void on_open() {}
    virtual void on_readable_done() {}  // after everything of one read was handled, before the send
    void on_payload(Opcode, size_t, std::string_view) override {}
    void on_message(Opcode, size_t) override {}
    void on_control(Opcode opcode, std::string_view payload) override;
    [[noreturn]] void fail(const std::string &what) const;

  private:
    friend class Loop;
    enum class State { kNew, kConnecting, kHandshaking, kOpen, kGone };
    void handle(uint32_t events);
    void connected();
    void read();
    std::string_view read_handshake(std::string_view data);  // what follows it
    void watch(uint32_t events, bool add = false);

    Loop &loop_;
    const Options &options_;
    uint32_t index_;
    State state_ = State::kNew;
    int fd_ = -1;
    bool waits_to_write_ = false;
    std::string out_, handshake_;
    size_t sent_ = 0;
    FrameReader reader_;
};

// Opens all of them, options.concurrency at a time; returns the seconds that it took.
double open_all(Loop &loop, const std::vector<Client *> &clients, int concurrency);

}  // namespace load
