// What a server counts of its traffic: numbers that one thread changes, beside what it touches anyway, and any thread
// reads.
//
// A Counter is changed by the loop's thread only (while none runs, by the thread that holds the GIL), so adding is a
// load and a store and needs no locked instruction; readers see each number whole, and no number ever falls. Different
// numbers may be of slightly different moments. What was refused is counted in limits/refusals.h, for it is also
// reported.
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

// Closes by the code that the close handler saw: those of RFC 6455 7.4.1, and 3000 to 4999.
class CloseCodes {
  public:
    static constexpr int kFirst = 1000, kLast = 1015, kFirstOfOthers = 3000, kLastOfOthers = 4999;
    void count(int code) {
        if (code >= kFirst && code <= kLast) {
            defined_[static_cast<size_t>(code - kFirst)].add();
        } else if (code >= kFirstOfOthers && code <= kLastOfOthers) {
            others_[static_cast<size_t>(code - kFirstOfOthers)].add();
        }
    }
    // visit(code, count) for every code that was seen, in order.
    template <typename Visit>
    void each(Visit visit) const {
        for (size_t i = 0; i < defined_.size(); i++) {
            if (uint64_t n = defined_[i].get()) visit(kFirst + static_cast<int>(i), n);
        }
        for (size_t i = 0; i < others_.size(); i++) {
            if (uint64_t n = others_[i].get()) visit(kFirstOfOthers + static_cast<int>(i), n);
        }
    }

  private:
    std::array<Counter, kLast - kFirst + 1> defined_;
    std::array<Counter, kLastOfOthers - kFirstOfOthers + 1> others_;
};

struct Stats {
    // By opcode (RFC 6455 5.2). Bytes are those of payloads as applications see them: unmasked, inflated, whole.
    struct Kind {
        Counter count, bytes;
        void add(size_t size) {
            count.add();
            bytes.add(size);
        }
    };
    struct Direction {
        std::array<Kind, 11> kinds;
        Counter compressed, plain_bytes, compressed_bytes;  // messages that were compressed, and their size both ways
        Kind &operator[](unsigned opcode) { return kinds[opcode]; }
        const Kind &operator[](unsigned opcode) const { return kinds[opcode]; }
        void add_compressed(size_t plain, size_t packed) {
            compressed.add();
            plain_bytes.add(plain);
            compressed_bytes.add(packed);
        }
    };
    Direction received, sent;
    Counter backpressured;  // messages that had to wait when they were sent
    Counter publishes;
    Counter connections, disconnections;
    Counter requests;  // complete ones, handed to a handler
    Counter declined;  // handshakes that were answered with something else than 101
    Counter upgrades;
    CloseCodes closes;
    TopicCounts topics;  // loop thread only

    // --- the socket layer's, and time ---
    // The loop is about to go: what it has counted stays.
    void keep(const us_loop_t *loop) {
        kept_read_ = us_loop_bytes_read(loop);
        kept_written_ = us_loop_bytes_written(loop);
        ended_ = std::chrono::steady_clock::now();
        has_ended_ = true;
    }
    // Of all connections, HTTP and framing included, without what TLS adds. `loop`: nullptr once it is gone.
    uint64_t bytes_read(const us_loop_t *loop) const { return loop ? us_loop_bytes_read(loop) : kept_read_; }
    uint64_t bytes_written(const us_loop_t *loop) const { return loop ? us_loop_bytes_written(loop) : kept_written_; }
    double uptime() const {
        auto until = has_ended_ ? ended_ : std::chrono::steady_clock::now();
        return std::chrono::duration<double>(until - started_).count();
    }

  private:
    // Written when the instance goes, which no reader sees half-way: both hold the GIL.
    uint64_t kept_read_ = 0, kept_written_ = 0;
    std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now(), ended_;
    bool has_ended_ = false;
};

}  // namespace uwserve
