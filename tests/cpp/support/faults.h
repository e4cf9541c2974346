// faults.h - every system call of a scenario is made to fail in turn (loop/sys.h counts them).
//
// For N = 1, 2, ... the N-th call fails, until a run needs fewer than N. Whatever fails, a scenario must neither crash nor
// hang, and it leaves no descriptor behind.
#pragma once

#include "check.h"
#include "usockets/loop/sys.h"

#include <dirent.h>
#include <initializer_list>

struct faults_t {
    inline static int at = 0;  // the first call to fail; 0: none is meant to
    inline static int count = 1;  // how many fail in a row
    inline static int kind = -1;  // only calls of this kind count; -1: all
    inline static int error = 0, made = 0, failed = 0;

    static constexpr int kFromThenOn = 1 << 30;

    static int hook(us_sys_call_t call, size_t *) {
        if (kind >= 0 && call != kind) return 0;
        made++;
        if (made < at || made - at >= count) return 0;
        failed++;
        return error;
    }

    // The run in which nothing has failed: it got everywhere it is meant to.
    static bool is_clean_run() { return at && !failed; }

    static int descriptors() {
        int open = 0;
        DIR *folder = opendir("/proc/self/fd");
        CHECK(folder);
        while (readdir(folder)) open++;
        closedir(folder);
        return open;
    }

    template <typename Scenario>
    static void run(Scenario scenario) {
        const int before = descriptors();
        made = failed = 0;
        us_sys_hook = hook;
        scenario();
        us_sys_hook = nullptr;
        CHECK_EQ(descriptors(), before);
    }
};

// Returns how many calls the longest run took.
template <typename Scenario>
int every_call_fails(std::initializer_list<int> errors, Scenario scenario, int in_a_row = 1, int kind = -1) {
    int most = 0;
    faults_t::count = in_a_row;
    faults_t::kind = kind;
    for (const int error : errors) {
        faults_t::error = error;
        for (faults_t::at = 1;; faults_t::at++) {
            faults_t::run(scenario);
            if (!faults_t::failed) break;
            CHECK(faults_t::at < 5000);
        }
        most = faults_t::at > most ? faults_t::at : most;
    }
    faults_t::kind = -1;
    return most;
}

// All calls of one kind fail from the start, for every kind.
template <typename Scenario>
void every_kind_of_call_fails(std::initializer_list<int> errors, Scenario scenario) {
    faults_t::at = 1;
    faults_t::count = faults_t::kFromThenOn;
    for (const int error : errors) {
        faults_t::error = error;
        for (faults_t::kind = 0; faults_t::kind < US_SYS_COUNT; faults_t::kind++) faults_t::run(scenario);
    }
    faults_t::kind = -1;
}
