// test_batches.cpp - what a turn publishes reaches a subscriber whole and in order, wherever the kernel stops taking it.
#include "instance_server.h"
#include "server.h"

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <new>

static int allocations_until_failure = 0;  // 1: the next one fails, once; 0: none

[[gnu::noinline]] void *operator new(size_t size) {
    if (allocations_until_failure && !--allocations_until_failure) throw std::bad_alloc();
    if (void *memory = malloc(size ? size : 1)) return memory;
    throw std::bad_alloc();
}
// A runtime of a sanitizer has one of its own, whose memory is not for the delete below.
[[gnu::noinline]] void *operator new(size_t size, const std::nothrow_t &) noexcept { return malloc(size ? size : 1); }
[[gnu::noinline]] void operator delete(void *memory) noexcept { free(memory); }
[[gnu::noinline]] void operator delete(void *memory, size_t) noexcept { free(memory); }

namespace {

using Turn = std::function<void(instance_server_t &)>;

int writes;  // of the batch
uint64_t sent;  // messages, as counted
size_t taken;  // by its first write
constexpr size_t kAll = ~size_t{0};
size_t cut = kAll;
int error = EAGAIN;  // of a write that is cut to nothing

int cut_first_batch(us_sys_call_t call, size_t *length) {
    if (call != US_SYS_SENDMSG) return 0;
    if (writes++) return 0;
    *length = std::min(*length, cut);
    taken = *length;
    return cut ? 0 : error;
}

// What a client hears of one turn.
std::string heard_of(const Turn &turn, std::string_view handshake = kHandshake) {
    instance_server_t server;
    int pair[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    const int room = 1 << 20;
    for (int fd : pair) CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
    CHECK(server.adopt(pair[1]));
    CHECK(::send(pair[0], handshake.data(), handshake.size(), MSG_NOSIGNAL) == (ssize_t) handshake.size());
    server.iterate(3);
    const std::string answer = hear(pair[0]);
    CHECK_EQ(server.peers.size(), 1);
    writes = 0;
    us_sys_hook = cut_first_batch;
    us_loop_enter(server.instance->loop());
    turn(server);
    us_loop_leave(server.instance->loop());
    server.iterate(1);
    us_sys_hook = nullptr;
    sent = server.limits.stats.sent[uWS::OpCode::BINARY].count.get();
    std::string heard;
    for (int i = 0; i < 4; i++) {
        server.iterate();
        heard += hear(pair[0]);
    }
    close(pair[0]);
    check_server_stream(answer + heard, true);
    return heard;
}

const std::string kPlain = std::string(kHandshake.substr(0, kHandshake.find("Sec-WebSocket-Ext"))) + "\r\n";
const std::string kShared =
    std::string(kHandshake.substr(0, kHandshake.size() - 4)) + "; server_no_context_takeover\r\n\r\n";

void publish_all(instance_server_t &server) {
    std::string noise(20'000, 0);
    for (size_t i = 0, x = 1; i < noise.size(); i++) noise[i] = (char) ((x = x * 6364136223846793005u + 1) >> 56);
    for (const std::string &each :
         {std::string("small"), std::string(600, 'a'), noise, std::string(), std::string(3, 'b'),
          std::string(20'000, 'c'), std::string(512, 'd'), noise, std::string("end")}) {
        server.publish(each, uWS::OpCode::BINARY);
    }
}

// At every byte near the borders of frames, and every so many bytes in between.
void every_cut(const Turn &turn, std::string_view handshake) {
    cut = kAll;
    const std::string expected = heard_of(turn, handshake);
    CHECK_EQ(writes, 1);
    CHECK_EQ(sent, 9);
    const size_t total = taken;
    CHECK(total > 40'000);
    for (size_t at = 0; at < total; at += at < 1300 || at % 1000 > 950 || total - at < 1000 ? 7 : 97) {
        cut = at;
        CHECK(heard_of(turn, handshake) == expected);
        CHECK_EQ(sent, 9);
    }
    cut = kAll;
}

std::vector<std::string> payloads_of(std::string_view stream) {
    std::vector<std::string> out;
    while (!stream.empty()) {
        size_t start = 2, size = (unsigned char) stream[1];
        if (size == 126) start = 4, size = (size_t) (unsigned char) stream[2] << 8 | (unsigned char) stream[3];
        out.emplace_back(stream.substr(start, size));
        stream.remove_prefix(start + size);
    }
    return out;
}

}  // namespace

// Every possible short count of several parts: nothing of it is kept, and the socket is blocked.
TEST(parts_every_split) {
    const std::string frame = "0123456789ABCD";
    static size_t cut;
    for (cut = 0; cut <= 14; cut++) {
        server_t server;
        const int fd = server.connect_client();
        us_socket_t *s = server.http.last;
        us_sys_hook = [](us_sys_call_t call, size_t *length) {
            if (call != US_SYS_SENDMSG) return 0;
            *length = cut;
            return cut ? 0 : EAGAIN;
        };
        iovec parts[] = {{(char *) frame.data(), 4}, {(char *) frame.data() + 4, 0}, {(char *) frame.data() + 4, 10}};
        CHECK(us_socket_can_write_parts(s));
        CHECK_EQ(us_socket_write_parts(s, parts, 3), cut);
        us_sys_hook = nullptr;
        CHECK_EQ(us_socket_unsent_bytes(s), 0);
        CHECK_EQ(s->blocked, cut < 14);
        CHECK_EQ(us_socket_can_write_parts(s), cut == 14);
        if (cut < 14) CHECK_EQ(us_socket_write_parts(s, parts, 3), 0);
        std::string heard;
        server.pump([&] { return (heard += hear(fd)) == frame.substr(0, cut) && !s->blocked; });
        close(fd);
    }
}

TEST(parts_of_a_dead_socket) {
    server_t server;
    const int fd = server.connect_client();
    us_socket_t *s = server.http.last;
    us_sys_hook = [](us_sys_call_t call, size_t *) { return call == US_SYS_SENDMSG ? EPIPE : 0; };
    iovec parts[] = {{(char *) "ab", 2}, {(char *) "cd", 2}};
    CHECK_EQ(us_socket_write_parts(s, parts, 2), 0);
    us_sys_hook = nullptr;
    CHECK(!us_socket_can_write_parts(s));
    CHECK_EQ(us_socket_write_parts(s, parts, 2), 0);
    server.pump([&] { return server.http.closed == 1; });
    close(fd);
}

TEST(a_batch_is_cut_anywhere) { every_cut(publish_all, kPlain); }
TEST(a_compressed_batch_is_cut_anywhere) { every_cut(publish_all, kShared); }

// More than upstream keeps for one subscriber: drained in the middle of the turn.
TEST(more_than_one_batch) {
    const auto turn = [](instance_server_t &server) {
        for (int i = 0; i < 40; i++) server.publish(std::string(3000 + (size_t) i, 'x'), uWS::OpCode::BINARY);
    };
    cut = kAll;
    const std::string expected = heard_of(turn, kPlain);
    CHECK(expected.size() > 40 * 3000);
    CHECK(writes <= 2);
    for (cut = 0; cut < 90'000; cut += 1499) CHECK(heard_of(turn, kPlain) == expected);
    cut = kAll;
}

TEST(a_context_of_its_own_sees_the_order_of_the_wire) {
    cut = kAll;
    const std::string expected = heard_of(publish_all);
    for (cut = 0; cut < 60'000; cut += 1499) CHECK(heard_of(publish_all) == expected);
    cut = kAll;
}

// A connection of the others is corked: nothing is, of those that the batch is for.
TEST(a_batch_beside_a_corked_socket) {
    const auto turn = [](instance_server_t &server) {
        const auto publish = [&] { publish_all(server); };
        int pair[2];
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
        CHECK(server.adopt(pair[1]));
        CHECK(::send(pair[0], kPlain.data(), kPlain.size(), MSG_NOSIGNAL) == (ssize_t) kPlain.size());
        server.iterate(3);
        uwserve::Socket *other = server.peers.back()->ws;
        other->unsubscribe("all");
        other->cork([&] { publish(), server.instance->topics().drain(); });
        close(pair[0]);
    };
    every_cut(turn, kPlain);
}

TEST(a_batch_to_the_socket_that_is_corked) {
    const auto turn = [](instance_server_t &server) {
        server.peers.back()->ws->cork([&] {
            publish_all(server);
            server.instance->topics().drain();
        });
    };
    every_cut(turn, kPlain);
}

TEST(a_batch_to_a_dead_peer) {
    cut = 0, error = EPIPE;
    CHECK(heard_of(publish_all, kPlain).empty());
    CHECK_EQ(writes, 1);
    cut = kAll, error = EAGAIN;
}

// Whichever allocation fails: what publish() accepted arrives, and nothing else.
TEST(publishing_without_memory) {
    bool failed = true;
    for (int n = 1; failed; n++) {
        failed = false;
        std::vector<std::string> accepted;
        accepted.reserve(100);
        const std::string heard = heard_of([&](instance_server_t &server) {
            for (int i = 0; i < 40; i++) {
                std::string message((size_t) (i % 3 ? 20 + i : 20'000 + i), (char) ('a' + i % 26));
                accepted.push_back(message);
                allocations_until_failure = n;
                try {
                    server.publish(message, uWS::OpCode::BINARY);
                } catch (const std::bad_alloc &) {
                    accepted.pop_back();
                    failed = true;
                }
                allocations_until_failure = 0;
            }
        }, kPlain);
        CHECK(payloads_of(heard) == accepted);
        CHECK(n < 100);
    }
}
