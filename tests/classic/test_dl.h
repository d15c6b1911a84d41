/*
 * test_dl.h - what the tests of the policy dl share.
 */
#ifndef TEST_DL_H
#define TEST_DL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "classic/dl.h"
#include "heap.h"
#include "os/os.h"

/* `config` NULL: tracked, and defaults. */
LU_INLINE struct lu__classic *create(const struct lu__classic_config *config,
                                     struct misuse *misuse) {
    struct lu__classic_config own = {.tracked = true};
    if (config != NULL) own = *config;
    return heap_create(&lu__policy_dl, &own, misuse);
}

LU_INLINE struct lu__dl_space *main_of(struct lu__classic *heap) {
    return &((struct lu__dl *)heap)->main;
}

/* A block of which every usable byte is written. */
LU_INLINE char *alloc(struct lu__classic *heap, size_t bytes) {
    char *payload = lu__classic_alloc(heap, bytes);
    assert_non_null(payload);
    assert_int_equal((uintptr_t)payload % 16, 0);
    assert_true(lu__classic_usable_size(heap, payload) >= bytes);
    memset(payload, 0xa5, lu__classic_usable_size(heap, payload));
    return payload;
}

LU_INLINE void release(struct lu__classic *heap, void *payload) {
    lu__classic_free(heap, payload);
    heap_check(heap);
}

/* A used block between others, so that what is freed beside it does not merge. */
LU_INLINE void fence(struct lu__classic *heap) {
    (void)alloc(heap, 1);
}

/* Rounded up to whole pages, which may be large ones. */
LU_INLINE size_t pages(size_t bytes) {
    return lu__align_up(bytes, LU_OS_PAGE);
}

#endif
