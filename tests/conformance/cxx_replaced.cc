/*
 * cxx_replaced.cc - programs that replace some of the operators new and delete, and not the others.
 *
 * The standard says which default operator calls which: arrays come to the operator for objects,
 * the nothrow forms to the throwing, sized deletes to those without a size. A program that replaces
 * one of them must see every call that is passed on to it, and never a block from its own new in
 * somebody else's delete. The macro REPLACED says which are replaced here, as a sum of:
 */
#define NEW 1
#define DELETE 2
#define NEW_ARRAY 4
#define DELETE_ARRAY 8
#define NEW_ALIGNED 16
#define DELETE_ALIGNED 32

#include <new>

#include "check.h"

namespace {

using std::align_val_t;
using std::nothrow;

/* Calls of the replacements, by the bit of each. */
size_t calls[64];

CHECK_UNUSED void *counted(int which, void *block) {
    calls[which]++;
    return block;
}

const align_val_t alignment = align_val_t(64);
const size_t size = 100;

} // namespace

/* Each asks for more than it was asked for: our sizes are not those of the program's deletes. */
#if REPLACED & NEW
void *operator new(size_t n) {
    return counted(NEW, malloc(n + 16));
}
#endif
#if REPLACED & DELETE
void operator delete(void *block) noexcept {
    free(counted(DELETE, block));
}
#endif
#if REPLACED & NEW_ARRAY
void *operator new[](size_t n) {
    return counted(NEW_ARRAY, malloc(n + 32));
}
#endif
#if REPLACED & DELETE_ARRAY
void operator delete[](void *block) noexcept {
    free(counted(DELETE_ARRAY, block));
}
#endif
#if REPLACED & NEW_ALIGNED
void *operator new(size_t n, align_val_t align) {
    return counted(NEW_ALIGNED, aligned_alloc((size_t)align, (n + 319) & ~(size_t)63));
}
#endif
#if REPLACED & DELETE_ALIGNED
void operator delete(void *block, align_val_t) noexcept {
    free(counted(DELETE_ALIGNED, block));
}
#endif

namespace {

/* Twice as many for objects as for arrays would hide a mix-up: 2, 3 and 5 cannot. */
enum { OBJECTS = 2, ARRAYS = 3, ALIGNED = 5 };

void call_all() {
    ::operator delete(::operator new(size), size);
    ::operator delete(::operator new(size, nothrow), nothrow);
    ::operator delete[](::operator new[](size), size);
    ::operator delete[](::operator new[](size));
    ::operator delete[](::operator new[](size, nothrow), nothrow);
    ::operator delete(::operator new(size, alignment), size, alignment);
    ::operator delete(::operator new(size, alignment, nothrow), alignment, nothrow);
    ::operator delete[](::operator new[](size, alignment), size, alignment);
    ::operator delete[](::operator new[](size, alignment), alignment);
    ::operator delete[](::operator new[](size, alignment, nothrow), alignment, nothrow);
}

void expect(int which, size_t expected) {
    if (REPLACED & which) CHECK_EQ(calls[which], expected);
}

} // namespace

int main(int argc, char **argv) {
    check_begin(argc, argv);
    enum { ROUNDS = 100 };
    for (int i = 0; i < ROUNDS; i++) call_all();
    expect(NEW, ROUNDS * (OBJECTS + (REPLACED & NEW_ARRAY ? 0 : ARRAYS)));
    expect(DELETE, ROUNDS * (OBJECTS + (REPLACED & DELETE_ARRAY ? 0 : ARRAYS)));
    expect(NEW_ARRAY, ROUNDS * ARRAYS);
    expect(DELETE_ARRAY, ROUNDS * ARRAYS);
    expect(NEW_ALIGNED, ROUNDS * ALIGNED);
    expect(DELETE_ALIGNED, ROUNDS * ALIGNED);
    check_passed("operators replaced by the program, set %d, see every call", REPLACED);
    return 0;
}
