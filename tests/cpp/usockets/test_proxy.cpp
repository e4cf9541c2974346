// test_proxy.cpp - PROXY headers: the parser on every prefix of every vector, and connections that begin with one.
#include "usockets/proxy/networks.h"
#include "usockets/proxy/parse.h"
#include "usockets/proxy/proxy.h"
#include "server.h"

namespace {

const std::string SIGNATURE("\r\n\r\n\0\r\nQUIT\n", 12);

std::string be16(size_t value) { return {(char) (value >> 8), (char) value}; }

std::string v2(int command, int family, const std::string &rest) {
    return SIGNATURE + (char) command + (char) family + be16(rest.size()) + rest;
}

std::string tlv(int type, const std::string &value) { return (char) type + be16(value.size()) + value; }

const std::string INET("\xc0\x00\x02\x01\xc6\x33\x64\x02\x30\x39\x01\xbb", 12);  // 192.0.2.1:12345 to 198.51.100.2:443
const std::string INET6(
    "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\x30\x39\x01\xbb", 36);

// The other way round than in the implementation: most significant bit first, on reflected data.
uint32_t crc32c(const std::string &data) {
    auto reflect = [](uint32_t value, int bits) {
        uint32_t result = 0;
        for (int i = 0; i < bits; i++) result |= (value >> i & 1) << (bits - 1 - i);
        return result;
    };
    uint32_t crc = 0xffffffff;
    for (unsigned char c : data) {
        crc ^= reflect(c, 8) << 24;
        for (int bit = 0; bit < 8; bit++) crc = crc & 0x80000000 ? crc << 1 ^ 0x1edc6f41 : crc << 1;
    }
    return ~reflect(crc, 32);
}

std::string with_checksum(const std::string &before, const std::string &after, uint32_t flip = 0) {
    const std::string whole = v2(0x21, 0x11, INET + before + tlv(3, std::string(4, '\0')) + after);
    const uint32_t crc = crc32c(whole) ^ flip;
    return v2(0x21, 0x11, INET + before + tlv(3, be16(crc >> 16) + be16(crc & 0xffff)) + after);
}

int parse(const std::string &data, us_proxy_header_t *header) {
    return us_proxy_parse((const uint8_t *) data.data(), data.size(), header);
}

struct vector_t {
    std::string header;
    std::string ip;  // "": the connection's own
    int port;
};

std::string ones() { return "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"; }

std::vector<vector_t> good() {
    std::string path(216, '\0');
    path.replace(0, 6, "/a/b/c");
    return {
        {"PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\n", "192.0.2.1", 12345},
        {"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255", 65535},
        {"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", "0.0.0.0", 0},
        {"PROXY TCP6 2001:db8::1 2001:db8::2 12345 443\r\n", "2001:db8::1", 12345},
        {"PROXY TCP6 " + ones() + " " + ones() + " 65535 65535\r\n", ones(), 65535},
        {"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", "::ffff:192.0.2.1", 1},
        {"PROXY UNKNOWN\r\n", "", 0},
        {"PROXY UNKNOWN " + ones() + " " + ones() + " 65535 65535\r\n", "", 0},
        {"PROXY UNKNOWN anything at all\r\n", "", 0},
        {v2(0x21, 0x11, INET), "192.0.2.1", 12345},
        {v2(0x21, 0x21, INET6), "2001:db8::1", 12345},
        {v2(0x21, 0x31, path), "", 0},
        {v2(0x21, 0x32, path), "", 0},
        {v2(0x21, 0x12, INET), "", 0},  // a datagram can't be what is relayed here
        {v2(0x21, 0x22, INET6), "", 0},
        {v2(0x21, 0x00, ""), "", 0},
        {v2(0x21, 0x00, "whatever"), "", 0},
        {v2(0x21, 0x10, INET), "", 0},
        {v2(0x21, 0x01, "ab"), "", 0},
        {v2(0x20, 0x00, ""), "", 0},  // LOCAL: all the rest is to be skipped
        {v2(0x20, 0x11, INET), "", 0},
        {v2(0x20, 0xff, "junk"), "", 0},
        {v2(0x21, 0x11, INET + tlv(4, "")), "192.0.2.1", 12345},
        {v2(0x21, 0x11, INET + tlv(1, "h2") + tlv(2, "example.com") + tlv(0xea, std::string(300, 'x'))), "192.0.2.1",
         12345},
        {v2(0x21, 0x11, INET + tlv(4, std::string(US_PROXY_MAX - 16 - 12 - 3, 'n'))), "192.0.2.1", 12345},
        {with_checksum("", ""), "192.0.2.1", 12345},
        {with_checksum(tlv(1, "http/1.1"), tlv(5, "unique")), "192.0.2.1", 12345},
    };
}

std::vector<std::string> bad() {
    std::vector<std::string> all = {
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\x16\x03\x01\x02",
        "proxy TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY\r\n",
        "PROXY \r\n",
        "PROXYTCP4 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY  TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY TCP4  192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1  2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 2 3\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 \r\n",
        "PROXY TCP4 192.0.2.1\r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP5 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 2\r \r\n",
        "PROXY TCP4\t192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2 198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2.256 198.51.100.2 1 2\r\n",
        "PROXY TCP4 0xc0000201 198.51.100.2 1 2\r\n",
        "PROXY TCP4 2001:db8::1 198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 2001:db8::1 1 2\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY TCP6 2001:db8::1::2 ::1 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 65536 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 -1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 99999999999\r\n",
        std::string("PROXY TCP4 192.0.2.1\0 198.51.100.2 1 2\r\n", 40),
        "PROXY UNKNOWNS\r\n",
        "PROXY UNKNOWN\n",
        "PROXY UNKNOWN" + std::string(120, ' ') + "\r\n",
        "PROXY UNKNOWN" + std::string(107 - 13 - 1, ' ') + "\r\n",  // 108 bytes
        std::string("\r\n\r\n\0\r\nQUIT\r", 12),
        "\r\n\r\nGET",
        SIGNATURE + "\x11\x11",  // version 1 in the binary format
        SIGNATURE + "\x22\x11",  // a command that does not exist
        SIGNATURE + "\x31\x11",
        v2(0x21, 0x41, INET),
        v2(0x21, 0x13, INET),
        v2(0x21, 0xff, INET),
        v2(0x21, 0x11, ""),  // lengths that lie
        v2(0x21, 0x11, INET.substr(0, 11)),
        v2(0x21, 0x21, INET),
        v2(0x21, 0x21, INET6.substr(0, 35)),
        v2(0x21, 0x31, std::string(215, 'p')),
        v2(0x21, 0x11, INET + "x"),
        v2(0x21, 0x11, INET + "xy"),
        v2(0x21, 0x11, INET + tlv(1, "abc") + "\x01"),
        v2(0x21, 0x11,
           INET + std::string("\x01\0\x04"
                              "abc",
                              6)),
        v2(0x21, 0x11, INET + std::string("\x01\xff\xff", 3)),
        v2(0x21, 0x11, INET + tlv(4, std::string(US_PROXY_MAX - 16 - 12 - 2, 'n'))),
        SIGNATURE + "\x21\x11\xff\xff",
        v2(0x21, 0x11, INET + tlv(3, "abc")),
        v2(0x21, 0x11, INET + tlv(3, "abcd")),
        with_checksum("", "", 1),
        with_checksum(tlv(1, "h2"), "", 0x80000000),
    };
    return all;
}

std::string text_of(const us_proxy_header_t &header) {
    char text[INET6_ADDRSTRLEN] = "";
    if (header.has_address) inet_ntop(header.ip_length == 4 ? AF_INET : AF_INET6, header.ip, text, sizeof(text));
    return text;
}

us_network_t network(const char *text, int prefix) {
    us_network_t result{};
    result.length = strchr(text, ':') ? 16 : 4;
    result.prefix = (uint8_t) prefix;
    CHECK_EQ(inet_pton(result.length == 4 ? AF_INET : AF_INET6, text, result.address), 1);
    return result;
}

bool contains(const us_network_t &network, const char *text) {
    const us_network_t address = ::network(text, 0);
    us_networks_t networks{&network, 1, false};
    return us_networks_contain(&networks, address.address, address.length);
}

const us_network_t LOOPBACK = network("127.0.0.0", 8);
const us_networks_t TRUSTED{&LOOPBACK, 1, false};

bool is_closed(int fd) {
    char byte;
    const ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

std::string address_of(us_socket_t *s) {
    char text[INET6_ADDRSTRLEN] = "";
    inet_ntop(s->ip_length == 4 ? AF_INET : AF_INET6, s->ip, text, sizeof(text));
    return text;
}

}  // namespace

TEST(the_checksum_of_the_test_is_crc32c) { CHECK_EQ(crc32c("123456789"), 0xe3069283); }

// Complete at exactly its last byte, whatever follows; before that, never refused and never taken for complete.
TEST(every_prefix_of_a_good_header) {
    us_proxy_header_t header;
    CHECK_EQ(parse("", &header), 0);
    for (const vector_t &vector : good()) {
        for (size_t n = 1; n < vector.header.size(); n++) CHECK_EQ(parse(vector.header.substr(0, n), &header), 0);
        for (const char *behind : {"", "G", "GET / HTTP/1.1\r\n\r\n", "PROXY UNKNOWN\r\n", "\r\n", "\n"}) {
            CHECK_EQ(parse(vector.header + behind, &header), vector.header.size());
            CHECK_EQ(header.has_address, !vector.ip.empty());
            CHECK(text_of(header) == vector.ip);
            CHECK_EQ(header.port, vector.port);
        }
    }
}

// Refused whole, and once refused no longer prefix is anything else; no prefix is ever complete.
TEST(every_prefix_of_a_bad_header) {
    us_proxy_header_t header;
    for (const std::string &data : bad()) {
        CHECK_EQ(parse(data, &header), -1);
        bool refused = false;
        for (size_t n = 1; n <= data.size(); n++) {
            const int answer = parse(data.substr(0, n), &header);
            CHECK(answer == (refused ? -1 : answer) && answer <= 0);
            refused = answer < 0;
        }
    }
}

TEST(networks_match_by_prefix) {
    CHECK(contains(network("10.0.0.0", 8), "10.255.255.255"));
    CHECK(!contains(network("10.0.0.0", 8), "11.0.0.0"));
    CHECK(contains(network("10.1.2.128", 25), "10.1.2.255"));
    CHECK(!contains(network("10.1.2.128", 25), "10.1.2.127"));
    CHECK(contains(network("0.0.0.0", 0), "1.2.3.4"));
    CHECK(!contains(network("0.0.0.0", 0), "::1"));
    CHECK(contains(network("10.1.2.3", 32), "::ffff:10.1.2.3"));
    CHECK(!contains(network("10.1.2.3", 32), "::10.1.2.3"));
    CHECK(contains(network("2001:db8::", 33), "2001:db8:7fff::"));
    CHECK(!contains(network("2001:db8::", 33), "2001:db8:8000::"));
    CHECK(contains(network("::", 0), "2001:db8::1"));
    CHECK(contains(network("::1", 128), "::1"));
    us_networks_t local{nullptr, 0, true};
    CHECK(us_networks_contain(&local, nullptr, 0));
    CHECK(!us_networks_contain(&TRUSTED, nullptr, 0));
}

// Every vector, cut at every place: on_open comes after the header, with its address, and sees none of it.
TEST(a_header_cut_anywhere) {
    server_t server;
    us_socket_context_proxy(server.http.context, &TRUSTED, 5);
    std::string opened;
    server.http.open = [&](us_socket_t *s) { opened = address_of(s); };
    for (const vector_t &vector : good()) {
        const size_t step = vector.header.size() > 400 ? 97 : 1;
        for (size_t cut = 1; cut <= vector.header.size(); cut += step) {
            const int before = server.http.opened, closed = server.http.closed;
            server.http.received.clear();
            const int fd = dial(server.port);
            say(fd, vector.header.substr(0, cut));
            us_loop_iterate(server.loop, 20);
            us_loop_iterate(server.loop, 0);
            if (cut < vector.header.size()) CHECK_EQ(server.http.opened, before);
            const std::string rest = vector.header.substr(cut) + "PROXY UNKNOWN\r\nhello";
            say(fd, rest);
            server.pump([&] { return server.http.received.size() == 20; });
            CHECK_EQ(server.http.opened, before + 1);
            CHECK(server.http.received == "PROXY UNKNOWN\r\nhello");
            CHECK(opened == (vector.ip.empty() ? "127.0.0.1" : vector.ip));
            CHECK_EQ(server.http.last->proxied_unknown, vector.ip.empty());
            if (!vector.ip.empty()) CHECK_EQ(us_socket_remote_port(0, server.http.last), vector.port);
            close(fd);
            server.pump_until(server.http.closed, closed + 1);
        }
    }
}

TEST(a_bad_header_closes_without_callbacks) {
    server_t server;
    us_socket_context_proxy(server.http.context, &TRUSTED, 5);
    const int before = count_fds();
    for (const std::string &data : bad()) {
        const int fd = dial(server.port);
        say(fd, data);
        server.pump([&] { return is_closed(fd); });
        close(fd);
    }
    CHECK_EQ(server.http.opened, 0);
    CHECK_EQ(server.http.closed, 0);
    CHECK_EQ(count_fds(), before);
}

TEST(leaving_in_the_middle_of_a_header) {
    server_t server;
    us_socket_context_proxy(server.http.context, &TRUSTED, 5);
    const int before = count_fds();
    for (const std::string &data : {std::string(), std::string("PROXY TC"), v2(0x21, 0x11, INET).substr(0, 20)}) {
        for (bool rst : {false, true}) {
            const int fd = dial(server.port);
            if (!data.empty()) say(fd, data);
            us_loop_iterate(server.loop, 20);
            rst ? reset(fd) : (void) close(fd);
            server.pump([&] { return count_fds() == before; });
        }
    }
    CHECK_EQ(server.http.opened, 0);
}

// Who is not in the list is not looked into: its header is data.
TEST(others_are_served_as_they_are) {
    server_t server;
    const us_network_t elsewhere = network("10.0.0.0", 8);
    const us_networks_t networks{&elsewhere, 1, true};
    us_socket_context_proxy(server.http.context, &networks, 5);
    const std::string header = good()[0].header;
    const int fd = dial(server.port);
    server.pump_until(server.http.opened, 1);
    say(fd, header);
    server.pump([&] { return server.http.received == header; });
    CHECK(address_of(server.http.last) == "127.0.0.1");
    close(fd);
    us_socket_context_proxy(server.http.context, nullptr, 0);
    const int second = dial(server.port);
    server.pump_until(server.http.opened, 2);
    close(second);
}

TEST(a_header_that_does_not_come_is_waited_for_so_long) {
    server_t server;
    us_socket_context_proxy(server.http.context, &TRUSTED, 1);
    const uint64_t begun = us_sys_now_ns();
    const int silent = dial(server.port), slow = dial(server.port);
    server.pump([&] {
        send(slow, "P", 1, MSG_NOSIGNAL);  // the first is the start of one; the second is refused
        return is_closed(silent) && is_closed(slow);
    });
    CHECK(us_sys_now_ns() - begun >= 900'000'000);
    CHECK_EQ(server.http.opened, 0);
    close(silent);
    close(slow);
}

// A header that stays incomplete costs no iterations: everything that was looked at has been taken.
TEST(an_incomplete_header_does_not_spin) {
    server_t server;
    us_socket_context_proxy(server.http.context, &TRUSTED, 5);
    const int fd = dial(server.port);
    say(fd, "PROXY TCP4 192");
    us_loop_iterate(server.loop, 20);
    us_loop_iterate(server.loop, 20);
    static int reads;
    reads = 0;
    us_sys_hook = [](us_sys_call_t call, size_t *) {
        reads += call == US_SYS_RECV;
        return 0;
    };
    for (int i = 0; i < 5; i++) us_loop_iterate(server.loop, 1);
    us_sys_hook = nullptr;
    CHECK_EQ(reads, 0);
    close(fd);
}

TEST(closing_the_listener_closes_those_that_wait) {
    server_t server;
    us_socket_context_proxy(server.http.context, &TRUSTED, 5);
    const int before = count_fds();
    const int first = dial(server.port), second = dial(server.port);
    say(first, "PROXY");
    server.pump([&] { return count_fds() == before + 4; });
    us_listen_socket_close(0, server.listener);
    CHECK(is_closed(first) && is_closed(second));
    CHECK_EQ(server.loop->num_polls, 0);
    us_loop_iterate(server.loop, 0);
    close(first);
    close(second);
    CHECK_EQ(count_fds(), before - 1);
}

TEST(bytes_one_at_a_time_and_every_failing_call) {
    static int fail_at, calls, failed;
    for (int error : {ENOMEM, EINTR, EAGAIN, ECONNRESET}) {
        static int with;
        with = error;
        for (fail_at = 0; fail_at < 500; fail_at++) {  // 0: none
            const int before = count_fds();
            calls = failed = 0;
            us_sys_hook = [](us_sys_call_t call, size_t *length) {
                if (call == US_SYS_RECV) *length = *length < 3 ? *length : 3;
                if (call == US_SYS_CLOSE || ++calls != fail_at) return 0;
                failed++;
                return with;
            };
            {
                us_loop_t *loop = server_t::make_loop();
                if (loop->error) {
                    us_loop_free(loop);
                } else {
                    context_t http(us_create_socket_context(0, loop, sizeof(void *), {}));
                    us_socket_context_proxy(http.context, &TRUSTED, 5);
                    us_listen_socket_t *listener =
                        us_socket_context_listen(0, http.context, "127.0.0.1", 0, LIBUS_LISTEN_EXCLUSIVE_PORT, 8);
                    const int port = listener ? us_socket_local_port(0, (us_socket_t *) listener) : -1;
                    const int fd = port > 0 ? dial(port) : -1;
                    if (fd >= 0) {
                        const std::string data = v2(0x21, 0x11, INET) + "hello";
                        send(fd, data.data(), data.size(), MSG_NOSIGNAL);
                        for (int i = 0; i < 12; i++) us_loop_iterate(loop, i < 2 ? 5 : 0);
                        if (!failed) CHECK(http.received == "hello");
                        close(fd);
                        us_loop_iterate(loop, 5);
                    }
                    us_socket_context_close(0, http.context);
                    us_loop_iterate(loop, 0);
                    CHECK_EQ(http.opened, http.closed);
                    us_socket_context_free(0, http.context);
                    us_loop_free(loop);
                }
            }
            us_sys_hook = nullptr;
            CHECK_EQ(count_fds(), before);
            if (fail_at && !failed) break;
        }
        CHECK(fail_at > 15 && fail_at < 500);
    }
}
