// The backlog of a connection against a std::string, and what it does with memory.
#include <sys/resource.h>

#include <new>
#include <random>
#include <string>

#include "check.h"
#include "uws/upstream/send_buffer.h"

using uwserve::SendBuffer;

static std::string_view content(const SendBuffer &backlog) { return {backlog.data(), backlog.length()}; }

TEST(behaves_as_a_string) {
    std::mt19937 random(1);
    auto below = [&](size_t limit) { return limit ? random() % limit : 0; };
    for (int round = 0; round < 200; round++) {
        SendBuffer backlog;
        std::string model, data(round % 4 ? 3000 : 300000, 0);
        for (char &c : data) c = (char) random();
        for (int step = 0; step < 300; step++) {
            std::string_view some(data.data(), below(data.size()));
            switch (below(7)) {
            case 0:
            case 1:
                backlog.append(some.data(), some.size());
                model.append(some);
                break;
            case 2: {  // as a frame is written: room first, then the bytes
                size_t length = backlog.length();
                backlog.resize(length + some.size());
                if (some.size()) memcpy((char *) backlog.data() + length, some.data(), some.size());
                model.append(some);
                break;
            }
            case 3: {
                size_t fewer = below(model.size() + 1);
                backlog.resize(fewer);
                model.resize(fewer);
                break;
            }
            case 4:
            case 5: {
                size_t count = below(model.size() + 1);
                if (step % 3) count = std::min<size_t>(count, 100);
                backlog.erase(count);
                model.erase(0, count);
                break;
            }
            default:
                if (step % 5 == 0) {
                    backlog.clear();
                    model.clear();
                } else {
                    backlog.reserve(model.size() + some.size());
                    CHECK(backlog.capacity() >= model.size() + some.size());
                }
            }
            CHECK(content(backlog) == model);
            // It shows more than there is by a 32nd at most.
            CHECK(backlog.shown_length() >= model.size());
            CHECK(backlog.shown_length() - model.size() <= backlog.shown_length() >> 5);
            if (step % 50 == 0) {
                SendBuffer moved(std::move(backlog));
                CHECK(backlog.length() == 0 && backlog.capacity() == 0);
                CHECK(content(moved) == model);
                new (&backlog) SendBuffer(std::move(moved));
            }
        }
    }
}

TEST(memory_follows_what_is_there) {
    SendBuffer backlog;
    std::string data(1 << 20, 'x');
    for (int i = 0; i < 64; i++) backlog.append(data.data(), data.size());
    CHECK(backlog.capacity() <= 96 << 20);
    while (backlog.length()) {
        size_t before = backlog.capacity();
        backlog.erase(std::min<size_t>(backlog.length(), 10000));
        CHECK(backlog.capacity() <= before);
        CHECK(backlog.capacity() <= std::max<size_t>(4 * backlog.length() + 40000, 64 << 10));
    }
    CHECK(backlog.capacity() == 0);

    // A queue that is never empty does not grow.
    backlog.append(data.data(), 5000);
    for (int i = 0; i < 100000; i++) {
        backlog.append(data.data(), 1000);
        backlog.erase(1000);
    }
    CHECK(backlog.length() == 5000 && backlog.capacity() < 20000);

    // A small one keeps its memory for the next time; a larger one does not.
    backlog.clear();
    CHECK(backlog.capacity() > 0);
    backlog.reserve(1 << 20);
    backlog.clear();
    CHECK(backlog.capacity() == 0);
}

TEST(room_that_is_held_stays) {
    SendBuffer backlog;
    std::string data(300000, 'x');
    backlog.append(data.data(), data.size());
    backlog.hold(backlog.length() + (64 << 20));
    const char *before = backlog.data();
    while (backlog.length() > 1000) backlog.erase(1000);
    CHECK(backlog.capacity() >= 64 << 20);
    backlog.clear();
    backlog.resize(64 << 20);
    CHECK(backlog.data() == before);
    // Let go while something is there, it goes with that; let go when nothing is, it goes at once.
    backlog.trim();
    CHECK(backlog.capacity() >= 64 << 20);
    backlog.erase((64 << 20) - 1000);
    CHECK(backlog.capacity() <= 33 << 20);
    backlog.clear();
    CHECK_EQ(backlog.capacity(), 0);
    backlog.hold(1 << 20);
    backlog.clear();
    CHECK(backlog.capacity() >= 1 << 20);
    backlog.trim();
    CHECK_EQ(backlog.capacity(), 0);
}

TEST(shows_progress_in_steps) {
    SendBuffer backlog;
    std::string data(32000, 'x');
    backlog.append(data.data(), data.size());
    backlog.erase(1000);
    CHECK_EQ(backlog.shown_length(), 32000);
    backlog.erase(1);
    CHECK_EQ(backlog.shown_length(), 30999);
    backlog.erase(30999);
    CHECK_EQ(backlog.shown_length(), 0);
}

TEST(takes_no_memory_to_give_back) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    puts("  skipped: a sanitizer's runtime cannot live without memory itself");
    return;
#endif
    SendBuffer backlog;
    std::string data(64 << 20, 'x');
    backlog.append(data.data(), data.size());
    rlimit old{};
    getrlimit(RLIMIT_AS, &old);
    rlimit none{1, old.rlim_max};  // nothing more can be mapped
    setrlimit(RLIMIT_AS, &none);
    bool thrown = false;
    try {
        backlog.append(data.data(), data.size());
    } catch (const std::bad_alloc &) {
        thrown = true;
    }
    bool unchanged = content(backlog) == data;
    backlog.erase(1 << 20);
    size_t left = backlog.length();
    while (backlog.length()) backlog.erase(std::min<size_t>(backlog.length(), 65536));
    setrlimit(RLIMIT_AS, &old);
    CHECK(thrown);
    CHECK(unchanged);
    CHECK_EQ(left, 63 << 20);
    CHECK_EQ(backlog.capacity(), 0);
}

TEST(refuses_what_no_memory_can_hold) {
    SendBuffer backlog;
    backlog.append("ab", 2);
    for (size_t size : {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX / 2}) {
        bool thrown = false;
        try {
            backlog.reserve(size);
        } catch (const std::bad_alloc &) {
            thrown = true;
        }
        CHECK(thrown && content(backlog) == "ab");
    }
}

TEST(holds_spare_memory) {
    uwserve::SpareMemory spare;
    SendBuffer backlog;
    backlog.hold(1 << 20, &spare);
    const char *block = backlog.data();
    backlog.trim(&spare);
    CHECK(backlog.capacity() == 0 && spare.memory.get() == block && spare.capacity >= 1 << 20);

    SendBuffer other;  // which has little memory of its own
    other.append("1234", 4);
    other.erase(4);
    other.hold(1 << 19, &spare);
    CHECK(other.data() == block && spare.capacity == 0 && !spare.memory);
    other.append("5678", 4);
    other.trim(&spare);  // needed
    CHECK(content(other) == "5678" && spare.capacity == 0);
    other.erase(4);
    CHECK(other.capacity() == 0);

    backlog.append("12", 2);
    backlog.hold(1 << 20, &spare);  // behind a backlog: there is no spare memory to be used
    CHECK(content(backlog) == "12");
    backlog.erase(2);
    backlog.trim(&spare);
    CHECK(backlog.length() == 0 && backlog.capacity() == 0 && spare.capacity >= 1 << 20);
    backlog.hold(uwserve::SpareMemory::kMost + 1, &spare);
    backlog.trim(&spare);  // too much to be kept
    CHECK(backlog.capacity() == 0 && spare.capacity <= uwserve::SpareMemory::kMost);
}
