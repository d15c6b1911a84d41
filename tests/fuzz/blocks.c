/*
 * blocks.c - operations on plain blocks: every way to get one, resize it, ask about it, free it.
 *
 * Up to FUZZ_PATTERN bytes of a block hold the pattern of its slot. Longer blocks also hold marks,
 * one word each at the eighths of the block and at its end, so that a page lost in the middle of a
 * large block shows without all of it being touched. errno is FUZZ_ERRNO before every call: after
 * it it must be the same on success and ENOMEM on failure, which only a failing system or a limit
 * excuse.
 */
#include "fuzz.h"

#define LIVE_MOST ((size_t)512 << 20)
#define PROBE_BYTES ((size_t)256 << 10)

bool fuzz_may_fail(void) {
    return fuzz.faults || fuzz.limit != 0;
}

static size_t index_of(const struct slot *slot) {
    return (size_t)(slot - fuzz.slots);
}

/* ------------------------------------------------------------------ patterns ----------------- */

/* Where mark `i` of a block of `size` bytes is; 0: there is none. */
static size_t mark_at(size_t size, unsigned i) {
    if (size <= FUZZ_PATTERN + 64) return 0;
    size_t at = i == 0 ? size - 8 : size / 8 * (2 * i - 1) + 8;
    return at < FUZZ_PATTERN ? 0 : at;
}

static uint64_t mark_of(const struct slot *slot, size_t at) {
    return check_mix(slot->seed ^ at << 8);
}

static void write_marks(const struct slot *slot) {
    for (unsigned i = 0; i < FUZZ_MARKS; i++) {
        size_t at = mark_at(slot->asked, i);
        uint64_t mark = mark_of(slot, at);
        if (at != 0) memcpy(slot->block + at, &mark, 8);
    }
}

/* The marks that `slot` had must be in the first `size` bytes of `block`. */
static void check_marks(const struct slot *slot, const unsigned char *block, size_t size) {
    for (unsigned i = 0; i < FUZZ_MARKS; i++) {
        size_t at = mark_at(slot->asked, i);
        uint64_t mark = mark_of(slot, at);
        if (at == 0 || at + 8 > size) continue;
        CHECK_THAT(memcmp(block + at, &mark, 8) == 0, "block %p of %zu bytes changed at byte %zu",
                   (const void *)block, slot->asked, at);
    }
}

void fuzz_check_zero(const void *block, size_t size) {
    const unsigned char *at = block;
    CHECK_ZERO(block, size < PROBE_BYTES ? size : PROBE_BYTES);
    for (size_t i = PROBE_BYTES; i < size; i += size / 64) CHECK_EQ(at[i], 0);
    if (size > 0) CHECK_EQ(at[size - 1], 0);
}

bool fuzz_enter(struct slot *slot, void *block, size_t size, size_t alignment, int heap) {
    if (block == NULL) {
        CHECK_EQ(errno, ENOMEM);
        CHECK_THAT(fuzz_may_fail(), "no block of %zu bytes (alignment %zu)", size, alignment);
        return false;
    }
    CHECK_EQ(errno, FUZZ_ERRNO);
    bool all = size < FUZZ_PATTERN / 2 && index_of(slot) % 2 == 0;
    shadow_enter(slot, block, size, alignment, heap,
                 all                   ? SIZE_MAX
                 : size < FUZZ_PATTERN ? size
                                       : FUZZ_PATTERN);
    write_marks(slot);
    fuzz.odd[index_of(slot)] = fuzz.faults;
    fuzz.live += size;
    return true;
}

void fuzz_verify(const struct slot *slot) {
    shadow_verify(slot);
    check_marks(slot, slot->block, slot->asked);
}

void fuzz_leave(struct slot *slot) {
    fuzz.live -= slot->asked;
    slot->block = NULL;
}

/* ------------------------------------------------------------------ allocation --------------- */

static size_t bounded_size(void) {
    size_t size = fuzz_size();
    return fuzz.live + size > LIVE_MOST ? size % 1000 : size;
}

static struct slot *empty_slot(void) {
    struct slot *slot = fuzz_slot();
    if (slot->block != NULL) fuzz_free(slot, 0);
    fuzz.busy = slot;
    return slot;
}

void fuzz_op_malloc(void) {
    struct slot *slot = empty_slot();
    size_t size = bounded_size();
    errno = FUZZ_ERRNO;
    (void)fuzz_enter(slot, lu_malloc(size), size, 0, 0);
}

void fuzz_op_calloc(void) {
    struct slot *slot = empty_slot();
    size_t size = bounded_size(), count = 1 + size % 3;
    size -= size % count;
    errno = FUZZ_ERRNO;
    void *block = lu_calloc(count, size / count);
    if (block != NULL) fuzz_check_zero(block, size);
    (void)fuzz_enter(slot, block, size, 0, 0);
}

void fuzz_op_aligned(void) {
    struct slot *slot = empty_slot();
    uint8_t how = fuzz_byte();
    size_t size = bounded_size(), alignment = (size_t)1 << (how >> 3) % 23;
    void *block = NULL;
    int error;
    errno = FUZZ_ERRNO;
    switch (how % 5) {
    case 0:
        block = lu_aligned_alloc(alignment, size);
        break;
    case 1:
        block = lu_memalign(alignment, size);
        break;
    case 2:
        if (alignment < sizeof(void *)) alignment = sizeof(void *);
        error = lu_posix_memalign(&block, alignment, size);
        CHECK_EQ(error, block != NULL ? 0 : ENOMEM);
        CHECK_EQ(errno, FUZZ_ERRNO);
        if (block == NULL) errno = ENOMEM;
        break;
    case 3:
        alignment = 4096;
        block = lu_valloc(size);
        break;
    default:
        alignment = 4096;
        block = lu_pvalloc(size);
    }
    (void)fuzz_enter(slot, block, size, alignment, 0);
}

static void *resize(struct slot *slot, size_t size, unsigned how) {
    if (slot->heap != 0 && how % 2 == 0) {
        return lu_heap_realloc(fuzz.heaps[slot->heap - 1], slot->block, size);
    }
    if (how % 4 == 1 && size % 2 == 0) return lu_reallocarray(slot->block, 2, size / 2);
    return lu_realloc(slot->block, size);
}

/* Another size, or one near the old. */
static size_t new_size(const struct slot *slot, uint8_t how) {
    size_t size = slot->asked;
    switch (how >> 6) {
    case 0:
        return size + (how & 63) * 8;
    case 1:
        return size / 2 + 1;
    case 2:
        return size < (size_t)8 << 20 ? size * 2 + 1 : size;
    default:
        return bounded_size();
    }
}

/* The block of a full slot; `size` is not 0. False if it stays as it was. */
static bool resize_slot(struct slot *slot, size_t size, uint8_t how) {
    struct slot old = *slot;
    errno = FUZZ_ERRNO;
    unsigned char *block = resize(slot, size, how);
    if (block == NULL) {
        CHECK_EQ(errno, ENOMEM);
        CHECK_THAT(fuzz_may_fail(), "realloc of %zu bytes to %zu", old.asked, size);
        CHECK_THAT(size > lu_usable_size(old.block), "a block of %zu bytes cannot become %zu",
                   old.asked, size);
        fuzz_verify(slot);
        return false;
    }
    size_t same = (size < old.size ? size : old.size) / 8 * 8;
    CHECK_FILLED(block, same, old.seed);
    check_marks(&old, block, size);
    bool odd = fuzz.odd[index_of(slot)] && block == old.block;
    fuzz_leave(slot);
    (void)fuzz_enter(slot, block, size, 0, old.heap);
    fuzz.odd[index_of(slot)] |= odd;
    return true;
}

void fuzz_op_realloc(void) {
    struct slot *slot = fuzz_slot();
    uint8_t how = fuzz_byte();
    fuzz.busy = slot;
    if (slot->block != NULL) fuzz_verify(slot);
    size_t size = slot->block != NULL ? new_size(slot, how) : bounded_size();
    if (size == 0) size = 1;
    if (fuzz.filling && size > 1000000) size %= 1000000;
    errno = FUZZ_ERRNO;
    if (slot->block == NULL) {
        (void)fuzz_enter(slot, lu_realloc(NULL, size), size, 0, 0);
        return;
    }
    (void)resize_slot(slot, size, how);
}

/* A large block and one behind it, so that it moves when it grows; then both grow and shrink. */
void fuzz_op_grow(void) {
    size_t first = fuzz_byte(), steps = 1 + fuzz_byte() % 6;
    for (size_t i = 0; i < 2 * steps; i++) {
        struct slot *slot = &fuzz.slots[(first + i % 2) % FUZZ_SLOTS];
        uint8_t how = fuzz_byte();
        size_t size = ((size_t)how + 1) * 50000 + fuzz_byte();
        if (fuzz.live + size > LIVE_MOST || fuzz.filling) return;
        fuzz.busy = slot;
        if (slot->block != NULL) {
            fuzz_verify(slot);
            (void)resize_slot(slot, size, how);
        } else {
            errno = FUZZ_ERRNO;
            (void)fuzz_enter(slot, lu_malloc(size), size, 0, 0);
        }
    }
}

/* ------------------------------------------------------------------ free --------------------- */

void fuzz_free(struct slot *slot, unsigned how) {
    if (slot->block == NULL) return;
    fuzz_verify(slot);
    errno = FUZZ_ERRNO;
    if (slot->heap != 0 && how % 2 == 0) {
        lu_heap_free(fuzz.heaps[slot->heap - 1], slot->block);
    } else if (how % 4 == 1 && slot->alignment == 0) {
        lu_free_sized(slot->block, slot->asked);
    } else if (how % 4 == 1 && slot->alignment != 4096) { /* that may be pvalloc's */
        lu_free_aligned_sized(slot->block, slot->alignment, slot->asked);
    } else if (how % 4 == 3) {
        CHECK(lu_realloc(slot->block, 0) == NULL);
    } else {
        lu_free(slot->block);
    }
    CHECK_EQ(errno, FUZZ_ERRNO);
    fuzz_leave(slot);
}

void fuzz_op_free(void) {
    struct slot *slot = fuzz_slot();
    fuzz_free(slot, fuzz_byte());
}

void fuzz_op_verify(void) {
    const struct slot *slot = fuzz_slot();
    if (slot->block != NULL) fuzz_verify(slot);
}

/* Many blocks of one size, as programs allocate. */
void fuzz_op_many(void) {
    size_t first = fuzz_byte(), count = 1 + fuzz_byte() % FUZZ_SLOTS, size = bounded_size();
    if (size > 100000) size %= 100000;
    for (size_t i = 0; i < count; i++) {
        struct slot *slot = &fuzz.slots[(first + i) % FUZZ_SLOTS];
        if (slot->block != NULL) continue;
        fuzz.busy = slot;
        errno = FUZZ_ERRNO;
        if (!fuzz_enter(slot, lu_malloc(size), size, 0, 0)) return;
    }
}

void fuzz_op_free_many(void) {
    size_t first = fuzz_byte(), count = 1 + fuzz_byte() % FUZZ_SLOTS, step = 1 + fuzz_byte() % 4;
    for (size_t i = 0; i < count; i += step) {
        fuzz_free(&fuzz.slots[(first + i) % FUZZ_SLOTS], (unsigned)step);
    }
}

/* ------------------------------------------------------------------ the rest ----------------- */

static void refused(const void *block, int error) {
    CHECK(block == NULL);
    CHECK_EQ(errno, error);
    errno = FUZZ_ERRNO;
}

/* What cannot be had leaves everything as it is. */
void fuzz_op_impossible(void) {
    struct slot *slot = fuzz_slot();
    size_t size = check_size((size_t)PTRDIFF_MAX + 1 - fuzz_word());
    void *out = slot;
    errno = FUZZ_ERRNO;
    refused(check_hidden(lu_malloc(check_size(SIZE_MAX - fuzz_byte()))), ENOMEM);
    refused(check_hidden(lu_calloc(check_size(SIZE_MAX / 2), 3)), ENOMEM);
    refused(check_hidden(lu_memalign(check_size(64), size)), ENOMEM);
    refused(check_hidden(lu_aligned_alloc(check_size(24), 24)), EINVAL);
    refused(check_hidden(lu_pvalloc(check_size(SIZE_MAX))), ENOMEM);
    CHECK_EQ(lu_posix_memalign(&out, check_size(24), 8), EINVAL);
    CHECK(out == slot);
    CHECK(lu_heap_create(77) == NULL);
    refused(NULL, EINVAL);
    if (slot->block == NULL) return;
    refused(check_hidden(lu_realloc(slot->block, check_size(SIZE_MAX - 100))), ENOMEM);
    refused(check_hidden(lu_reallocarray(slot->block, size, 4)), ENOMEM);
    fuzz_verify(slot);
}

void fuzz_op_questions(void) {
    const struct slot *slot = fuzz_slot();
    size_t size = fuzz_size(), good = lu_good_size(size);
    CHECK_THAT(good >= size && lu_good_size(good) == good, "good size of %zu is %zu", size, good);
    CHECK_EQ(lu_good_size(SIZE_MAX), 0);
    CHECK(!lu_owns(&good));
    CHECK(!lu_owns(NULL));
    CHECK_EQ(lu_usable_size(NULL), 0);
    if (slot->block == NULL) return;
    CHECK(lu_owns(slot->block));
    CHECK(lu_owns(slot->block + slot->asked / 2));
}
