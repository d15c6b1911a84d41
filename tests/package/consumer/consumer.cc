/*
 * consumer.cc - a C++ program that was built against the installed package: operator new and
 * delete must be lucid's, and a request too large must still throw std::bad_alloc.
 */
#include <lucid/lucid.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

static bool all_owned = true;

static void need_owned(const char *what, const void *block) {
    if (!lu_owns(block)) {
        std::fprintf(stderr, "%s: block %p is not of lucid\n", what, block);
        all_owned = false;
    }
}

struct alignas(256) Aligned {
    char bytes[256];
};

/* Through a pointer that the compiler cannot see through, or it may leave the call out. */
static void *(*volatile new_array)(std::size_t) = ::operator new[];

static bool throws() {
    try {
        new_array(static_cast<std::size_t>(-1) / 2);
    } catch (const std::bad_alloc &) {
        return true;
    }
    std::fprintf(stderr, "operator new[] did not throw\n");
    return false;
}

int main() {
    std::vector<std::string> strings;
    for (int i = 0; i < 1000; i++) strings.emplace_back(100, 'x');
    need_owned("std::string", strings[500].data());
    auto aligned = std::make_unique<Aligned>();
    need_owned("aligned new", aligned.get());
    auto array = std::make_unique<int[]>(1000);
    need_owned("new[]", array.get());
    void *block = std::malloc(10);
    need_owned("malloc", block);
    std::free(block);
    return all_owned && throws() ? 0 : 1;
}
