/* test_pt.h - what the tests of the policy pt share. */
#ifndef TEST_PT_H
#define TEST_PT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "heap.h"

#define TCACHE 7

static struct misuse misuse;

LU_INLINE struct lu__classic *create(const struct lu__classic_config *config) {
    struct lu__classic_config own = {.arenas = 4};
    if (config != NULL) own = *config;
    own.tracked = true;
    misuse = (struct misuse){0};
    return heap_create(&lu__policy_pt, &own, &misuse);
}

LU_INLINE void destroy(struct lu__classic *heap) {
    heap_check(heap);
    assert_int_equal(misuse.count, 0);
    lu__classic_destroy(heap);
}

LU_INLINE void expect_misuse(struct lu__classic *heap, const char *what, const void *block) {
    assert_int_equal(misuse.count, 1);
    assert_string_equal(misuse.what, what);
    assert_ptr_equal(misuse.block, block);
    misuse.count = 0;
    heap_check(heap);
}

LU_INLINE char *give(struct lu__classic *heap, size_t bytes) {
    char *block = lu__classic_alloc(heap, bytes);
    assert_non_null(block);
    memset(block, 0x5a, bytes);
    return block;
}

LU_INLINE bool is_mapped(const struct lu__classic *heap, const char *block) {
    return (uintptr_t)block - heap->area.base >= heap->area.broken;
}

/* Its size with the bits below. */
LU_INLINE size_t header_of(const void *block) {
    return ((const size_t *)block)[-1];
}

/* A block that is not free keeps its neighbours apart. */
LU_INLINE char *with_fence(struct lu__classic *heap, size_t bytes) {
    char *block = give(heap, bytes);
    give(heap, 24);
    return block;
}

/* Fill the cache of this size, so that what follows goes to the arena. */
LU_INLINE void fill_cache(struct lu__classic *heap, size_t bytes) {
    char *blocks[TCACHE];
    for (int i = 0; i < TCACHE; i++) blocks[i] = with_fence(heap, bytes);
    for (int i = 0; i < TCACHE; i++) lu__classic_free(heap, blocks[i]);
}

#endif
