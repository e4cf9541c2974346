// test_limits.cpp - the parts of limits that need no server: addresses, pending heads by age, counters and their reports.
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "check.h"
#include "uws/limits/rate_bucket.h"
#include "uws/limits/limits.h"
#include "uws/http/pending_heads.h"

using namespace uwserve;

namespace {

using Address = std::array<uint8_t, 16>;

Address v6(std::initializer_list<int> bytes) {
    Address address{};
    size_t i = 0;
    for (int byte : bytes) address[i++] = static_cast<uint8_t>(byte);
    return address;
}

Address mapped(uint8_t a, uint8_t b, uint8_t c, uint8_t d) {
    return {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, a, b, c, d};
}

struct Seen {
    std::vector<std::pair<Refusals::Counts, double>> reports;
    static void note(void *self, const Refusals::Counts &counts, double seconds) {
        static_cast<Seen *>(self)->reports.push_back({counts, seconds});
    }
};

uint64_t count_of(const Refusals::Counts &counts, Refusal cause) { return counts[static_cast<size_t>(cause)]; }

void nothing(us_loop_t *) {}

}  // namespace

TEST(addresses_are_counted_by_ipv4_and_by_64_bits_of_ipv6) {
    AddressTable table;
    const uint8_t a[4] = {10, 0, 0, 1}, b[4] = {10, 0, 0, 2};
    CHECK_EQ(table.add(a, 4), 1);
    CHECK_EQ(table.add(a, 4), 2);
    CHECK_EQ(table.add(b, 4), 1);
    CHECK_EQ(table.add(mapped(10, 0, 0, 1).data(), 16), 3);  // the same host, through a dual-stack socket
    Address site = v6({0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 1}), neighbour = site, other = site;
    neighbour[15] = 77;
    other[7] = 2;
    CHECK_EQ(table.add(site.data(), 16), 1);
    CHECK_EQ(table.add(neighbour.data(), 16), 2);
    CHECK_EQ(table.add(other.data(), 16), 1);
    CHECK_EQ(table.size(), 4);
    Address low = v6({0, 0, 0, 0, 10, 0, 0, 1});  // its 64 bits are those of the IPv4 address
    CHECK_EQ(table.add(low.data(), 16), 1);
    table.remove(low.data(), 16);
    for (int i = 0; i < 3; i++) table.remove(a, 4);
    table.remove(b, 4);
    table.remove(site.data(), 16);
    table.remove(site.data(), 16);
    table.remove(other.data(), 16);
    CHECK_EQ(table.size(), 0);
    table.remove(a, 4);  // not there: harmless
    CHECK_EQ(table.size(), 0);
}

TEST(loopback_in_all_its_spellings) {
    const uint8_t yes[4] = {127, 3, 2, 1}, no[4] = {128, 0, 0, 1};
    CHECK(is_loopback(yes, 4));
    CHECK(!is_loopback(no, 4));
    CHECK(is_loopback(mapped(127, 0, 0, 1).data(), 16));
    CHECK(!is_loopback(mapped(10, 0, 0, 1).data(), 16));
    Address one{};
    CHECK(!is_loopback(one.data(), 16));
    one[15] = 1;
    CHECK(is_loopback(one.data(), 16));
    CHECK(!is_loopback(one.data(), 0));
}

// Against a plain set of arrival numbers, in random order of joining and leaving.
TEST(pending_heads_are_in_order_of_age) {
    std::mt19937 random(7);
    std::vector<PendingHead> members(300);
    std::set<std::pair<int, size_t>> model;
    std::vector<int> arrival(members.size(), -1);
    PendingHeads heads;
    for (int step = 0; step < 20000; step++) {
        size_t i = random() % members.size();
        if (arrival[i] < 0 && random() % 2) {
            heads.add(members[i]);
            arrival[i] = step;
            model.insert({step, i});
        } else {
            heads.remove(members[i]);  // also when it is not in
            model.erase({arrival[i], i});
            arrival[i] = -1;
        }
        CHECK_EQ(heads.size(), model.size());
        CHECK(heads.oldest() == (model.empty() ? nullptr : &members[model.begin()->second]));
        CHECK_EQ(members[i].is_pending, arrival[i] >= 0);
    }
    while (!model.empty()) {
        CHECK(heads.oldest() == &members[model.begin()->second]);
        heads.remove(*heads.oldest());
        model.erase(model.begin());
    }
    CHECK(!heads.oldest());
}

TEST(the_first_refusal_is_reported_at_once_and_the_rest_once_a_period) {
    us_loop_t *loop = us_create_loop(&loop, nothing, nothing, nothing, 0);
    CHECK(!loop->error);
    {
        Refusals refusals;
        Seen seen;
        refusals.install(loop, Seen::note, &seen);
        refusals.period_ms = 30;
        refusals.count(Refusal::kConnections);
        refusals.count(Refusal::kConnections);
        refusals.count(Refusal::kHttp431);
        CHECK_EQ(seen.reports.size(), 0);  // not from where it is counted
        us_loop_iterate(loop, 1000);
        CHECK_EQ(seen.reports.size(), 1);
        CHECK_EQ(count_of(seen.reports[0].first, Refusal::kConnections), 2);
        CHECK_EQ(count_of(seen.reports[0].first, Refusal::kHttp431), 1);
        CHECK(seen.reports[0].second == 0);

        for (int i = 0; i < 5; i++) refusals.count(Refusal::kHttp431);
        us_loop_iterate(loop, 0);
        CHECK_EQ(seen.reports.size(), 1);  // the period has not passed
        while (seen.reports.size() < 2) us_loop_iterate(loop, 1000);
        CHECK_EQ(count_of(seen.reports[1].first, Refusal::kHttp431), 5);
        CHECK_EQ(count_of(seen.reports[1].first, Refusal::kConnections), 0);
        CHECK(seen.reports[1].second >= 0.025);

        us_loop_iterate(loop, 1000);  // a quiet period ends it
        CHECK_EQ(seen.reports.size(), 2);
        CHECK_EQ(us_loop_iterate(loop, 0), 0);
        refusals.count(Refusal::kHttp400);  // and this is a first one again
        us_loop_iterate(loop, 1000);
        CHECK_EQ(seen.reports.size(), 3);
        CHECK(seen.reports[2].second == 0);

        refusals.count(Refusal::kHttp400);
        refusals.detach();  // what is left is told
        CHECK_EQ(seen.reports.size(), 4);
        CHECK_EQ(refusals.total(Refusal::kHttp400), 2);
        refusals.count(Refusal::kHttp400);  // without a loop it is counted all the same
        CHECK_EQ(refusals.total(Refusal::kHttp400), 3);
    }
    us_loop_free(loop);
}

TEST(dead_peers_are_told_of_along_with_others_only) {
    us_loop_t *loop = us_create_loop(&loop, nothing, nothing, nothing, 0);
    {
        Refusals refusals;
        Seen seen;
        refusals.install(loop, Seen::note, &seen);
        refusals.period_ms = 1;
        refusals.count(Refusal::kIdleTimeouts);
        for (int i = 0; i < 3; i++) us_loop_iterate(loop, 5);
        CHECK_EQ(seen.reports.size(), 0);
        refusals.count(Refusal::kHttp400);
        while (seen.reports.empty()) us_loop_iterate(loop, 1000);
        CHECK_EQ(count_of(seen.reports[0].first, Refusal::kIdleTimeouts), 1);
        refusals.detach();
    }
    us_loop_free(loop);
}

TEST(rates_allow_ten_seconds_at_once_and_then_that_much_a_second) {
    RateBucket rate;
    uint32_t now = 100;
    auto take = [&](int count, uint32_t limit) {
        int got = 0;
        for (int i = 0; i < count; i++) got += rate.take(now, limit);
        return got;
    };
    CHECK_EQ(take(200, 10), 100);
    now++;
    CHECK_EQ(take(200, 10), 10);
    now += 1000000;  // a quiet time does not save up more
    CHECK_EQ(take(200, 10), 100);
    CHECK_EQ(take(200, 15), 50);  // a raised limit holds at once
    now++;
    CHECK_EQ(take(200, 4), 0);  // and a lowered one: 150 were taken, 4 are given back a second
    now += 27;
    CHECK_EQ(take(200, 4), 2);
    CHECK_EQ(take(10, UINT32_MAX), 10);  // no limit is too large
}

TEST(counting_from_many_threads_loses_nothing) {
    Refusals refusals;
    std::atomic<int> wakes{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; t++) {
        threads.emplace_back([&] {
            for (int i = 0; i < 20000; i++) wakes += refusals.count_elsewhere(Refusal::kSendsBufferedBytes);
        });
    }
    for (std::thread &thread : threads) thread.join();
    CHECK_EQ(refusals.total(Refusal::kSendsBufferedBytes), 80000);
    CHECK_EQ(wakes.load(), 1);  // one of them is told to wake the loop
}

TEST(names_are_distinct_and_statuses_find_theirs) {
    std::set<std::string> names;
    for (size_t i = 0; i < kRefusals; i++) names.insert(refusal_name(static_cast<Refusal>(i)));
    CHECK_EQ(names.size(), kRefusals);
    for (int status : {400, 413, 414, 417, 431, 501, 503, 505}) {
        CHECK("http_" + std::to_string(status) == refusal_name(refusal_of_code(status)));
    }
    for (int code : {1002, 1007, 1009, 1011}) {
        CHECK("websocket_" + std::to_string(code) == refusal_name(refusal_of_code(code)));
    }
    CHECK(refusal_of_code(404) == Refusal::kCount);
    CHECK(refusal_of_code(1000) == Refusal::kCount);
}
