// check.h - just enough of a test framework: TEST(name) { CHECK(...); } and a main() that runs them all, or those named
// (not with CHECK_WITHOUT_MAIN).
#pragma once

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

struct test_t {
    const char *name;
    void (*run)();
};

inline std::vector<test_t> &all_tests() {
    static std::vector<test_t> tests;
    return tests;
}

struct register_test_t {
    register_test_t(const char *name, void (*run)()) { all_tests().push_back({name, run}); }
};

#define TEST(name)                                       \
    static void name();                                  \
    static register_test_t register_##name(#name, name); \
    static void name()

#define CHECK(condition)                                                                                      \
    do {                                                                                                      \
        if (!(condition)) {                                                                                   \
            fprintf(stderr, "%s:%d: CHECK(%s) failed (errno %d %s)\n", __FILE__, __LINE__, #condition, errno, \
                    strerror(errno));                                                                         \
            abort();                                                                                          \
        }                                                                                                     \
    } while (0)

#define CHECK_EQ(a, b)                                                                                           \
    do {                                                                                                         \
        const long long check_a = (long long) (a), check_b = (long long) (b);                                    \
        if (check_a != check_b) {                                                                                \
            fprintf(stderr, "%s:%d: %s is %lld, not %s (%lld)\n", __FILE__, __LINE__, #a, check_a, #b, check_b); \
            abort();                                                                                             \
        }                                                                                                        \
    } while (0)

inline int run_tests(int argc, char **argv) {
    int ran = 0;
    for (const test_t &test : all_tests()) {
        bool wanted = argc < 2;
        for (int i = 1; i < argc; i++) {
            wanted = wanted || strcmp(argv[i], test.name) == 0;
        }
        if (wanted) {
            printf("%s\n", test.name);
            fflush(stdout);
            test.run();
            ran++;
        }
    }
    printf("%d tests passed\n", ran);
    return ran ? 0 : 1;
}

#ifndef CHECK_WITHOUT_MAIN
int main(int argc, char **argv) { return run_tests(argc, argv); }
#endif
