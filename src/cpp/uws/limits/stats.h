// Counters of a server's traffic. One thread changes them, and any thread reads them.
//
// That thread is the loop's (while no loop runs, the one that holds the GIL), so adding is a load and a store and needs no
// locked instruction. Readers never see a number torn or falling; different numbers may be of slightly different moments.
// Refusals are counted in limits/refusals.h, because they are also reported.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "usockets/loop/loop.h"

#include "uws/topics/topic_counts.h"

namespace uwserve {

class Counter {
  public:
    void add(uint64_t n = 1) { value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed); }
    uint64_t get() const { return value_.load(std::memory_order_relaxed); }

  private:
    std::atomic<uint64_t> value_{0};
};

// Closes by the code that the close handler received: those of RFC 6455 7.4.1, and 3000 to 4999.
class CloseCodes {
  public:
    void count(int code) {
        if (code >= kFirst && code < kEnd) counts_[static_cast<size_t>(code - kFirst)].add();
    }
    // Calls visit(code, count) for every code that was counted, in order.
    template <typename Visit>
    void each(Visit visit) const {
        for (int code = kFirst; code < kEnd; code++) {
            if (uint64_t n = counts_[static_cast<size_t>(code - kFirst)].get()) visit(code, n);
        }
    }

  private:
    static constexpr int kFirst = 1000, kEnd = 5000;
    std::array<Counter, kEnd - kFirst> counts_;
};

struct Stats {
    // By opcode (RFC 6455 5.2). Bytes are those of payloads as the application sees them: unmasked, inflated, whole.
    struct Kind {
        Counter count, bytes;
        void add(size_t size) {
            count.add();
            bytes.add(size);
        }
    };
    struct Direction {
        std::array<Kind, 11> kinds;
        Counter compressed, plain_bytes, compressed_bytes;  // compressed messages, and their size before and after
        Kind &operator[](unsigned opcode) { return kinds[opcode]; }
        const Kind &operator[](unsigned opcode) const { return kinds[opcode]; }
        void add_compressed(size_t plain, size_t packed) {
            compressed.add();
            plain_bytes.add(plain);
            compressed_bytes.add(packed);
        }
    };
    Direction received, sent;
    Counter backpressured;  // messages that were queued
    Counter publishes;
    Counter connections, disconnections;
    Counter requests;  // complete requests, passed to a handler
    Counter declined;  // handshakes that were not answered with 101
    Counter upgrades;
    CloseCodes closes;
    TopicCounts topics;  // loop thread only

    // --- bytes, which the loop counts, and time ---
    // The loop is about to be freed: keeps its counts.
    void keep(const us_loop_t *loop) {
        kept_read_ = us_loop_bytes_read(loop);
        kept_written_ = us_loop_bytes_written(loop);
        ended_ = std::chrono::steady_clock::now();
        has_ended_ = true;
    }
    // Of all connections, with HTTP and framing, without TLS. `loop`: nullptr when it is freed.
    uint64_t bytes_read(const us_loop_t *loop) const { return loop ? us_loop_bytes_read(loop) : kept_read_; }
    uint64_t bytes_written(const us_loop_t *loop) const { return loop ? us_loop_bytes_written(loop) : kept_written_; }
    double uptime() const {
        auto until = has_ended_ ? ended_ : std::chrono::steady_clock::now();
        return std::chrono::duration<double>(until - started_).count();
    }

  private:
    // Written when the instance is destroyed. Readers hold the GIL, too.
    uint64_t kept_read_ = 0, kept_written_ = 0;
    std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now(), ended_;
    bool has_ended_ = false;
};

}  // namespace uwserve
