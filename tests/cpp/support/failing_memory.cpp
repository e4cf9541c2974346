// A library to be preloaded: memory that the extension asks for fails at the n-th request from now on, and only there.
//
// What counts are requests out of the extension's own code (by their return address): Python's allocations, and those of the
// libraries, are left alone. tests/python/memory/test_allocation_failures.py builds and arms it.
#include <dlfcn.h>
#include <link.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>

extern "C" {
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
}

namespace {

std::atomic<long> countdown{-1};  // < 0: none fails
std::atomic<long> failures{0};
std::atomic<unsigned long> begin_text{0}, end_text{0};

int find_text(dl_phdr_info *info, size_t, void *name) {
    if (!strstr(info->dlpi_name, static_cast<const char *>(name))) return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) &part = info->dlpi_phdr[i];
        if (part.p_type != PT_LOAD || !(part.p_flags & PF_X)) continue;
        begin_text = info->dlpi_addr + part.p_vaddr;
        end_text = info->dlpi_addr + part.p_vaddr + part.p_memsz;
    }
    return 1;
}

bool fails(void *caller) {
    auto address = reinterpret_cast<unsigned long>(caller);
    if (countdown.load() < 0 || address < begin_text.load() || address >= end_text.load()) return false;
    if (countdown.fetch_sub(1) != 0) return false;
    failures++;
    errno = ENOMEM;
    return true;
}

void *make(size_t size) {
    if (void *memory = __libc_malloc(size ? size : 1)) return memory;
    throw std::bad_alloc();
}

}  // namespace

extern "C" {

__attribute__((visibility("default"))) int failing_memory_of(const char *library) {
    return dl_iterate_phdr(find_text, const_cast<char *>(library));
}
__attribute__((visibility("default"))) void failing_memory_at(long request) {
    failures = 0;
    countdown = request;
}
__attribute__((visibility("default"))) long failing_memory_end() {
    countdown = -1;
    return failures;
}

void *malloc(size_t size) { return fails(__builtin_return_address(0)) ? nullptr : __libc_malloc(size); }
void *calloc(size_t count, size_t size) {
    return fails(__builtin_return_address(0)) ? nullptr : __libc_calloc(count, size);
}
void *realloc(void *old, size_t size) {
    return fails(__builtin_return_address(0)) ? nullptr : __libc_realloc(old, size);
}
}

void *operator new(size_t size) {
    if (fails(__builtin_return_address(0))) throw std::bad_alloc();
    return make(size);
}
void *operator new[](size_t size) {
    if (fails(__builtin_return_address(0))) throw std::bad_alloc();
    return make(size);
}
void *operator new(size_t size, const std::nothrow_t &) noexcept {
    return fails(__builtin_return_address(0)) ? nullptr : __libc_malloc(size ? size : 1);
}
void operator delete(void *memory) noexcept { free(memory); }
void operator delete[](void *memory) noexcept { free(memory); }
void operator delete(void *memory, size_t) noexcept { free(memory); }
void operator delete[](void *memory, size_t) noexcept { free(memory); }
