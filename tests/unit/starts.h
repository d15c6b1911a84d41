/* starts.h - for tests of where blocks begin: sets of a cache, what violations told. */
#ifndef STARTS_H
#define STARTS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/options.h"
#include "heap/heap.h"
#include "lucid/lucid.h"
#include "os/os.h"
#include "span/huge.h"

enum { MANY = 64, SETS = 64, WAYS = 8, LINE = 64 };
#define ALIGN_MOST (4 * LU_MIB)

/* Classes above 4 KiB, of which some fill their slices to the last. */
static const size_t upper[] = {4608,  5120,  6144,  7168,  8192,  9216,  12288, 16384,
                               20480, 24576, 28672, 32768, 40960, 53248, 65536};

static inline size_t offset_of(const void *block, size_t period) {
    return (uintptr_t)block & (period - 1);
}

/* Allocate `count` blocks and count those of the set that has most. */
static inline unsigned crowd(void **blocks, size_t count, size_t align, size_t size) {
    unsigned sets[SETS] = {0}, most = 0;
    for (size_t i = 0; i < count; i++) {
        blocks[i] = align == 0 ? lu_malloc(size) : lu_aligned_alloc(align, size);
        assert_non_null(blocks[i]);
        assert_int_equal(offset_of(blocks[i], LU_MAX(align, LINE)), 0);
        unsigned *set = &sets[offset_of(blocks[i], LU_OS_PAGE_LEAST) / LINE];
        if (++*set > most) most = *set;
    }
    return most;
}

static inline void free_many(void **blocks, size_t count) {
    for (size_t i = 0; i < count; i++) lu_free(blocks[i]);
}

static lu_violation_t told;

static inline bool note(const lu_violation_t *violation, void *arg) {
    (void)arg;
    told = *violation;
    return true;
}

static inline void expect(lu_violation_kind_t kind, char *pointer, const char *block) {
    told = (lu_violation_t){.kind = 0};
    lu_free(pointer);
    assert_int_equal(told.kind, kind);
    assert_ptr_equal(told.pointer, pointer);
    assert_ptr_equal(told.block, block);
}

#endif
