// The decoder of chunked bodies against tables: whole, byte by byte and at every split point. Many of the vectors are what
// has let requests be smuggled through other servers.
#include "uws/http/chunked_body.h"

#include <string>
#include <vector>

#include "check.h"

using namespace uwserve;
using Next = ChunkedBody::Next;

namespace {

// What became of the input: the data, how it ended, the trailers, and what was left behind the body.
std::string decode(const std::string &bytes, const std::vector<size_t> &cuts) {
    ChunkedBody body;
    std::string result, rest;
    Next next = Next::kMore;
    size_t at = 0;
    for (size_t i = 0; i <= cuts.size() && next == Next::kMore; i++) {
        const size_t end = i < cuts.size() ? cuts[i] : bytes.size();
        // Memory of exactly its size, so that AddressSanitizer sees what is beside it.
        std::vector<char> piece(bytes.begin() + static_cast<long>(at), bytes.begin() + static_cast<long>(end));
        std::string_view input(piece.data(), piece.size()), data;
        while ((next = body.next(input, &data)) == Next::kData) result += data;
        if (next == Next::kEnd) rest = std::string(input) + bytes.substr(end);
        at = end;
    }
    std::string_view nothing, data;
    CHECK(body.next(nothing, &data) == next);  // it stays so
    if (next == Next::kMalformed) return "malformed";
    if (next == Next::kMore) return "more: " + result;
    return result + "|" + std::string(body.trailers()) + "|" + rest;
}

void check(const std::string &bytes, const std::string &expected) {
    auto report = [&](const char *how, const std::string &got) {
        if (got == expected) return;
        fprintf(stderr, "%s: %s\n  expected %s\n  got      %s\n", how, bytes.substr(0, 200).c_str(), expected.c_str(),
                got.c_str());
        abort();
    };
    report("whole", decode(bytes, {}));
    std::vector<size_t> each;
    for (size_t i = 1; i < bytes.size(); i++) each.push_back(i);
    report("byte by byte", decode(bytes, each));
    const size_t step = bytes.size() > 4096 ? 97 : 1;
    for (size_t cut = 1; cut < bytes.size(); cut += step) report("in two", decode(bytes, {cut}));
}

TEST(bodies) {
    check("0\r\n\r\n", "|\r\n|");
    check("5\r\nhello\r\n0\r\n\r\n", "hello|\r\n|");
    check("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world|\r\n|");
    check("a\r\n0123456789\r\n0\r\n\r\n", "0123456789|\r\n|");
    check("A\r\n0123456789\r\n0\r\n\r\n", "0123456789|\r\n|");
    check("0000000000000000000000000000000000000005\r\nhello\r\n0000\r\n\r\n", "hello|\r\n|");
    check("2\r\n\r\n\r\n0\r\n\r\n", "\r\n|\r\n|");  // data that looks like a line end
    check("5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n|\r\n|");
    check("10\r\n" + std::string(16, '\0') + "\r\n0\r\n\r\n", std::string(16, '\0') + "|\r\n|");
    check("1388\r\n" + std::string(5000, 'x') + "\r\n0\r\n\r\n", std::string(5000, 'x') + "|\r\n|");
}

TEST(what_comes_after) {
    check("0\r\n\r\nGET / HTTP/1.1\r\n", "|\r\n|GET / HTTP/1.1\r\n");
    check("1\r\nx\r\n0\r\n\r\n0\r\n\r\n", "x|\r\n|0\r\n\r\n");
    check("0\r\n\r\n\r\n", "|\r\n|\r\n");
}

TEST(not_complete) {
    for (const char *text : {"", "5", "5\r", "5\r\n", "5;", "5;a=b", "5;a\r"}) check(text, "more: ");
    check("5\r\nhel", "more: hel");
    check("5\r\nhello", "more: hello");
    check("5\r\nhello\r", "more: hello");
    check("5\r\nhello\r\n", "more: hello");
    check("0\r\n", "more: ");
    check("0\r\n\r", "more: ");
    check("0\r\nA: b\r\n", "more: ");
    check("ffffffffffffffff\r\nx", "more: x");
    check("0\r\n\r\r\n", "more: ");  // a line that is no field; the parser of fields refuses it
}

TEST(extensions_are_ignored) {
    check("5;name\r\nhello\r\n0\r\n\r\n", "hello|\r\n|");
    check("5;name=value;other=\"a;b\"\r\nhello\r\n0;last\r\n\r\n", "hello|\r\n|");
    check("5 ; name = value\r\nhello\r\n0\t;x\r\n\r\n", "hello|\r\n|");  // bad white space, to be taken (section 7.1.1)
    check("5;\r\nhello\r\n0\r\n\r\n", "hello|\r\n|");
    check("5;\xc3\xa4\r\nhello\r\n0\r\n\r\n", "hello|\r\n|");
}

TEST(trailers) {
    check("0\r\nA: b\r\n\r\n", "|A: b\r\n\r\n|");
    check("1\r\nx\r\n0\r\nA: b\r\nC: d\r\n\r\nrest", "x|A: b\r\nC: d\r\n\r\n|rest");
}

TEST(malformed) {
    const char *const vectors[] = {
        // sizes
        "\r\n",
        " 5\r\nhello\r\n",
        "\t5\r\nhello\r\n",
        "\n5\r\nhello\r\n",
        "\r5\r\nhello\r\n",
        "5 \r\nhello\r\n",  // white space with no extension
        "5\t\r\nhello\r\n",
        "+5\r\nhello\r\n",
        "-1\r\nx\r\n",
        "-0\r\n\r\n",
        "0x5\r\nhello\r\n",
        "5x\r\nhello\r\n",
        "0_5\r\nhello\r\n",
        "5_\r\nhello\r\n",
        "5,5\r\nhello\r\n",
        "5.0\r\nhello\r\n",
        "g\r\n",
        ";a\r\n",
        "\"5\"\r\nhello\r\n",
        "5 5\r\nhello\r\n",
        "1these-bytes-are-no-size\r\nZ\r\n0\r\n\r\n",
        "10000000000000000\r\n",  // 2^64
        "fffffffffffffffff\r\n",
        "100000000000000005\r\nhello\r\n",  // wraps around to 5
        "\xd9\xa5\r\nhello\r\n",  // a digit, but not ASCII's
        // line ends
        "5\nhello\r\n",
        "5\r\rhello\r\n",
        "5\rhello\r\n",
        "5\r\r\nhello\r\n",
        "0\n\r\n",
        "0\r\n\n",
        "0\r\nA: b\n\r\n",
        // extensions: a line feed that the parser in front could take for the end of the line
        "5;\nxx\r\nhello\r\n",
        "5;a=\"\n\"\r\nhello\r\n",
        "5;a\rb\r\nhello\r\n",
        "5;\x01\r\nhello\r\n",
        "5;\x7f\r\nhello\r\n",
        "2;\nxx\r\n4c\r\n0\r\n\r\nGET /admin HTTP/1.1\r\n",
        // data of another length than was declared
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello\rX\r\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
    };
    for (const char *vector : vectors) check(vector, "malformed");
    check(std::string("5\0\r\nhello\r\n", 11), "malformed");
    check(std::string("5;\0\r\nhello\r\n", 12), "malformed");
}

TEST(overhead_is_bounded) {
    const std::string half(ChunkedBody::kMaxOverhead / 2, 'e'), more(ChunkedBody::kMaxOverhead, 'e');
    check("1;" + half + "\r\nx\r\n0\r\n\r\n", "x|\r\n|");
    check("1;" + more, "malformed");
    // One after the other, each within the bound.
    std::string many;
    for (int i = 0; i < 8; i++) many += "1;" + half.substr(0, 4096) + "\r\nx\r\n";
    check(many, "malformed");
    // Small chunks without extensions cost no more than they may.
    std::string small, expected;
    for (int i = 0; i < 3000; i++) small += "1\r\nx\r\n", expected += "x";
    check(small + "0\r\n\r\n", expected + "|\r\n|");
    check(std::string(ChunkedBody::kMaxOverhead + 1, '0'), "malformed");
}

TEST(trailers_are_bounded) {
    const size_t line = 100, lines = ChunkedBody::kMaxTrailerBytes / line;
    std::string field = "A: " + std::string(line - 5, 'x') + "\r\n", section;
    for (size_t i = 0; i + 1 < lines; i++) section += field;
    check("0\r\n" + section + "\r\n", "|" + section + "\r\n|");
    for (int i = 0; i < 3; i++) section += field;
    check("0\r\n" + section + "\r\n", "malformed");
}

TEST(what_is_left_is_known_before_it_comes) {
    ChunkedBody body;
    std::string_view input = "ffffffffffffffff\r\n", data;
    CHECK(body.next(input, &data) == Next::kMore);
    CHECK_EQ(body.left_of_chunk(), UINT64_MAX);
}

}  // namespace
