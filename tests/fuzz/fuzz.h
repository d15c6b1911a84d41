/*
 * fuzz.h - what the files of the harness `api` share: the input, the shadow, and who does an
 * operation.
 *
 * An input is a program: each operation is a byte, with bit 7 saying that the helper thread does
 * it, followed by the bytes that the operation reads. An input that has run out gives zeros. All
 * state is in `fuzz` and belongs to the thread that has the turn; the other one waits.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "lucid/lucid.h"
#include "shadow.h"

enum {
    FUZZ_SLOTS = 64,
    FUZZ_HEAPS = 3,
    FUZZ_MARKS = 5,      /* words in large blocks beyond the pattern          */
    FUZZ_PATTERN = 8192, /* bytes of a block that hold the pattern, at most   */
    FUZZ_ERRNO = 77,     /* what errno is before every call                   */
};

struct fuzz {
    const uint8_t *at, *end; /* rest of the input                                          */
    struct slot slots[FUZZ_SLOTS];
    bool odd[FUZZ_SLOTS]; /* allocated while the system failed: of the emergency kind, maybe */
    struct slot *busy;    /* in use by the operation: the limit's callback leaves it alone */
    size_t live;          /* bytes asked for in the slots                            */
    bool faults;          /* the system fails now and then                           */
    size_t limit;         /* 0: none; else what held memory may not pass             */
    bool filling;         /* option perturb: every byte is touched                   */
    lu_heap_t *heaps[FUZZ_HEAPS];
    bool shared[FUZZ_HEAPS];  /* was made so */
    unsigned owned;           /* scopes and caches that hold blocks of the engine        */
    unsigned violations;      /* reported since the operation began                      */
    lu_violation_kind_t kind; /* of the last                                             */
};
extern struct fuzz fuzz;

/* The next byte of the input; two; a size: mostly small, few of megabytes. */
uint8_t fuzz_byte(void);
uint16_t fuzz_word(void);
size_t fuzz_size(void);
/* A slot by the next byte. */
struct slot *fuzz_slot(void);

/* blocks.c: plain blocks. */

/* The result of an allocation of `size` bytes, with errno as the call left it; false: no memory. */
bool fuzz_enter(struct slot *slot, void *block, size_t size, size_t alignment, int heap);
/* The pattern and the marks must be there. */
void fuzz_verify(const struct slot *slot);
/* Verify and free; in one of the ways that fit, by `how`. Nothing for an empty slot. */
void fuzz_free(struct slot *slot, unsigned how);
/* The block is gone with its heap. */
void fuzz_leave(struct slot *slot);
/* Calls for memory may fail now. */
bool fuzz_may_fail(void);
/* Bytes beyond which a calloc is only probed. */
void fuzz_check_zero(const void *block, size_t size);

void fuzz_op_malloc(void);
void fuzz_op_calloc(void);
void fuzz_op_aligned(void);
void fuzz_op_realloc(void);
void fuzz_op_grow(void);
void fuzz_op_free(void);
void fuzz_op_verify(void);
void fuzz_op_many(void);
void fuzz_op_free_many(void);
void fuzz_op_impossible(void);
void fuzz_op_questions(void);

/* misuse.c: what a program must not do, and what is reported. */
void fuzz_misuse_init(void);
void fuzz_op_misuse(void);

/* own.c: heaps, scopes, caches. */
void fuzz_op_heap_toggle(void);
void fuzz_op_heap_alloc(void);
void fuzz_op_heap_walk(void);
void fuzz_op_scope_alloc(void);
void fuzz_op_scope_end(void);
void fuzz_op_cache_toggle(void);
void fuzz_op_cache_alloc(void);
void fuzz_op_cache_free(void);
void fuzz_op_cache_reap(void);
/* Everything ends. */
void fuzz_own_fini(void);

#endif
