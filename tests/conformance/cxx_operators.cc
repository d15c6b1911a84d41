/*
 * cxx_operators.cc - the 20 replaceable operators new and delete, each called by its own name.
 *
 * The standard has eight operators new (object or array; throwing or not; aligned or not) and
 * twelve operators delete (the same, and sized). Checked here: blocks of all alignments, zero
 * sizes, bad_alloc, NULL from the nothrow ones, and the new-handler, which is called again and
 * again until there is memory, it throws, or there is none.
 */
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <unordered_map>
#include <vector>

#include "check.h"

namespace {

using std::align_val_t;
using std::nothrow;

const size_t impossible = std::numeric_limits<ptrdiff_t>::max() - 100;

size_t alignment_of(size_t size) {
    return (size_t)16 << size % 9;
}

/* Operator new number `which` of eight. */
void *call_new(int which, size_t size, align_val_t alignment) {
    switch (which) {
    case 0:
        return ::operator new(size);
    case 1:
        return ::operator new[](size);
    case 2:
        return ::operator new(size, nothrow);
    case 3:
        return ::operator new[](size, nothrow);
    case 4:
        return ::operator new(size, alignment);
    case 5:
        return ::operator new[](size, alignment);
    case 6:
        return ::operator new(size, alignment, nothrow);
    default:
        return ::operator new[](size, alignment, nothrow);
    }
}

bool is_nothrow(int which) {
    return which % 4 >= 2;
}
bool is_array(int which) {
    return which % 2 == 1;
}
bool is_aligned(int which) {
    return which >= 4;
}

/* One of the three operators delete that fit operator new number `which`. */
void call_delete(int which, int form, void *block, size_t size, align_val_t alignment) {
    bool array = is_array(which);
    if (is_aligned(which)) {
        switch (form) {
        case 0:
            if (array) {
                ::operator delete[](block, alignment);
            } else {
                ::operator delete(block, alignment);
            }
            return;
        case 1:
            if (array) {
                ::operator delete[](block, size, alignment);
            } else {
                ::operator delete(block, size, alignment);
            }
            return;
        default:
            if (array) {
                ::operator delete[](block, alignment, nothrow);
            } else {
                ::operator delete(block, alignment, nothrow);
            }
            return;
        }
    }
    switch (form) {
    case 0:
        if (array) {
            ::operator delete[](block);
        } else {
            ::operator delete(block);
        }
        return;
    case 1:
        if (array) {
            ::operator delete[](block, size);
        } else {
            ::operator delete(block, size);
        }
        return;
    default:
        if (array) {
            ::operator delete[](block, nothrow);
        } else {
            ::operator delete(block, nothrow);
        }
        return;
    }
}

void every_pair() {
    for (size_t size = 0; size <= CHECK_MIB; size = check_next_size(size)) {
        for (int which = 0; which < 8; which++) {
            for (int form = 0; form < 3; form++) {
                size_t alignment = alignment_of(size);
                void *blocks[3];
                for (void *&block : blocks) {
                    block = check_hidden(call_new(which, size, align_val_t(alignment)));
                    CHECK_THAT(block != nullptr, "new %d of %zu bytes gave NULL", which, size);
                    CHECK_ALIGNED(block, is_aligned(which) ? alignment : size < 16 ? 8 : 16);
                    size_t part = size < 5000 ? size : 5000;
                    check_fill(block, part, size);
                }
                CHECK(blocks[0] != blocks[1] && blocks[1] != blocks[2]);
                for (void *block : blocks) {
                    CHECK_FILLED(block, size < 5000 ? size : 5000, size);
                    call_delete(which, form, block, size, align_val_t(alignment));
                }
            }
        }
    }
    for (int which = 0; which < 8; which++) {
        for (int form = 0; form < 3; form++) {
            call_delete(which, form, nullptr, 0, align_val_t(64));
        }
    }
    check_passed("8 operators new with 12 operators delete, 0 to 1 MiB; delete of NULL");
}

/* ------------------------------------------------------------------ without memory ----------- */

int handler_calls;

void handler_gives_up() {
    if (++handler_calls == 5) std::set_new_handler(nullptr);
}

struct own_exception {
    int value;
};

void handler_throws() {
    if (++handler_calls == 3) throw own_exception{42};
}

void handler_throws_bad_alloc() {
    handler_calls++;
    throw std::bad_alloc();
}

/* "null", "bad_alloc" or "own": how an impossible request ended. */
const char *outcome(int which, size_t size) {
    try {
        void *block = check_hidden(call_new(which, check_size(size), align_val_t(64)));
        return block == nullptr ? "null" : "block";
    } catch (const own_exception &e) {
        return e.value == 42 ? "own" : "wrong value";
    } catch (const std::bad_alloc &e) {
        return e.what() != nullptr ? "bad_alloc" : "no text";
    }
}

void expect(int which, size_t size, const char *expected, int calls) {
    handler_calls = 0;
    const char *got = outcome(which, size);
    CHECK_THAT(strcmp(got, expected) == 0, "new %d of %zu bytes: %s, not %s", which, size, got,
               expected);
    CHECK_EQ(handler_calls, calls);
}

void no_memory() {
    const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 4096, impossible, (size_t)1 << 62};
    for (size_t size : sizes) {
        for (int which = 0; which < 8; which++) {
            /* libstdc++ 12 rounds such a size up to 0 for an aligned block. */
            if (!check_strict && is_aligned(which) && size > SIZE_MAX - 8192) continue;
            const char *end = is_nothrow(which) ? "null" : "bad_alloc";
            std::set_new_handler(nullptr);
            expect(which, size, end, 0);
            /* Called until it removes itself. */
            std::set_new_handler(handler_gives_up);
            expect(which, size, end, 5);
            CHECK(std::get_new_handler() == nullptr);
            std::set_new_handler(handler_throws_bad_alloc);
            expect(which, size, end, 1);
            CHECK(std::get_new_handler() == handler_throws_bad_alloc);
            /* Another exception than bad_alloc passes through the throwing operators. (In a
               nothrow one it would end the program, as the standard has it.) */
            if (is_nothrow(which)) continue;
            std::set_new_handler(handler_throws);
            expect(which, size, "own", 3);
        }
    }
    std::set_new_handler(nullptr);
    check_passed("without memory: new-handler loop, bad_alloc, NULL, a handler that throws");
}

/* Most calls of new come from the compiler's own new expressions and from the library. */
struct alignas(128) wide {
    char bytes[200];
};

void expressions() {
    std::unordered_map<int, std::string> map;
    std::vector<std::unique_ptr<wide>> wides;
    int rounds = (int)check_amount(20000);
    for (int i = 0; i < rounds; i++) {
        map[i] = std::string((size_t)i % 100, 'x') + std::to_string(i);
        if (i % 3 == 0) map.erase(i / 2);
        if (i % 10 == 0) {
            wides.emplace_back(new wide);
            CHECK_ALIGNED(wides.back().get(), 128);
        }
    }
    CHECK(map[rounds - 1].size() == (size_t)(rounds - 1) % 100 + std::to_string(rounds - 1).size());
    wide *array = new wide[33];
    CHECK_ALIGNED(array, 128);
    delete[] array;
    size_t count = check_size(impossible);
    bool thrown = false;
    try {
        delete[] static_cast<char *>(check_hidden(new char[count]));
    } catch (const std::bad_alloc &) {
        thrown = true;
    }
    CHECK(thrown);
    CHECK(check_hidden(new (nothrow) char[count]) == nullptr);
    check_passed("containers, over-aligned types, new expressions that fail");
}

/* In a C++ program lucid's own operators are used, not the library's over lucid's malloc. */
void where_from() {
    const char *const names[] = {
        "_Znwm",
        "_Znam",
        "_ZnwmRKSt9nothrow_t",
        "_ZnamRKSt9nothrow_t",
        "_ZnwmSt11align_val_t",
        "_ZnamSt11align_val_t",
        "_ZnwmSt11align_val_tRKSt9nothrow_t",
        "_ZnamSt11align_val_tRKSt9nothrow_t",
        "_ZdlPv",
        "_ZdaPv",
        "_ZdlPvm",
        "_ZdaPvm",
        "_ZdlPvRKSt9nothrow_t",
        "_ZdaPvRKSt9nothrow_t",
        "_ZdlPvSt11align_val_t",
        "_ZdaPvSt11align_val_t",
        "_ZdlPvmSt11align_val_t",
        "_ZdaPvmSt11align_val_t",
        "_ZdlPvSt11align_val_tRKSt9nothrow_t",
        "_ZdaPvSt11align_val_tRKSt9nothrow_t",
    };
    Dl_info home, info;
    CHECK(dladdr(dlsym(RTLD_DEFAULT, "malloc"), &home) != 0);
    for (const char *name : names) {
        void *symbol = dlsym(RTLD_DEFAULT, name);
        CHECK_THAT(symbol != nullptr && dladdr(symbol, &info) != 0, "there is no %s", name);
        CHECK_THAT(!check_strict || strcmp(info.dli_fname, home.dli_fname) == 0,
                   "malloc is from %s, %s from %s", home.dli_fname, name, info.dli_fname);
    }
    check_passed("20 operators by their mangled names%s",
                 check_strict ? ", all from malloc's library" : "");
}

} // namespace

int main(int argc, char **argv) {
    check_begin(argc, argv);
    every_pair();
    no_memory();
    expressions();
    where_from();
    return 0;
}
