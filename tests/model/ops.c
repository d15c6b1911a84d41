/*
 * ops.c - one random operation on a random slot.
 *
 * An empty slot gets a block from one of the functions that give blocks; a full one is resized,
 * checked, handed to another thread or freed. Now and then something that must fail is asked for,
 * or free memory is given back. Each thread works on its own table; nothing is shared but the
 * cells.
 */
#include "model.h"

static const size_t live_bytes_max = 48 * CHECK_MIB; /* of one thread */

#ifdef MODEL_LU
#define free_sized lu_free_sized
#define free_aligned_sized lu_free_aligned_sized
#else
/* Not every malloc has them. */
extern void free_sized(void *block, size_t size) __attribute__((weak));
extern void free_aligned_sized(void *block, size_t alignment, size_t size) __attribute__((weak));
#endif

static bool has_sized_frees(void) {
#ifdef MODEL_LU
    return true;
#else
    return free_sized != NULL && free_aligned_sized != NULL;
#endif
}

static size_t some_alignment(struct thread *thread) {
    return (size_t)1 << model_below(thread, model_below(thread, 50) == 0 ? 21 : 13);
}

static void allocate(struct thread *thread, struct slot *slot) {
    size_t size = model_size(thread), alignment = 0;
    void *block = NULL;
    if (thread->live > live_bytes_max && size > 1000) size = 1000;
    switch (model_below(thread, 16)) {
    case 0:
        alignment = some_alignment(thread);
        block = model_aligned_alloc(alignment, size);
        break;
    case 1:
        alignment = some_alignment(thread);
        block = model_memalign(alignment, size);
        break;
    case 2:
        alignment = some_alignment(thread) * 8;
        errno = model_posix_memalign(&block, alignment, size);
        CHECK((errno == 0) == (block != NULL));
        break;
    case 3:
        alignment = 4096;
        block = model_below(thread, 2) == 0 ? model_valloc(size) : model_pvalloc(size);
        break;
    case 4:
        block = model_realloc(NULL, size);
        break;
    case 5:
        block = model_reallocarray(NULL, size, 1);
        break;
    case 6:
    case 7:
    case 8:
    case 9:
        block = model_calloc(size % 3 == 0 ? 3 : 1, size % 3 == 0 ? size / 3 : size);
        if (block != NULL) CHECK_ZERO(block, size);
        break;
    default:
        block = model_malloc(size);
    }
    if (model_refused(block)) return;
    CHECK_THAT(block != NULL, "no block of %zu bytes (alignment %zu), errno %d", size, alignment,
               errno);
    model_enter(thread, slot, block, size, alignment, 0);
}

void model_free_slot(struct thread *thread, struct slot *slot) {
    model_verify(slot);
    int value = (int)model_below(thread, 200) - 50;
    errno = value;
    if (slot->heap != 0) {
        model_own_free(thread, slot);
    } else if (slot->alignment == 0 && has_sized_frees() && model_below(thread, 4) == 0) {
        free_sized(slot->block, slot->asked);
    } else if (slot->alignment != 0 && has_sized_frees() && slot->alignment != 4096 &&
               model_below(thread, 4) == 0) {
        free_aligned_sized(slot->block, slot->alignment, slot->asked);
    } else {
        model_free(slot->block);
    }
    CHECK_EQ(errno, value);
    model_leave(thread, slot);
}

/* Sizes from which pages are moved rather than copied, so that blocks become mappings and, when
 * they are smaller again, runs. */
static size_t moving_size(struct thread *thread) {
    return 400 * CHECK_KIB + model_below(thread, 3 * CHECK_MIB);
}

static size_t new_size(struct thread *thread, const struct slot *slot) {
    bool large = slot->asked >= 400 * CHECK_KIB;
    if (model_below(thread, large ? 2 : 150) == 0) return moving_size(thread);
    switch (model_below(thread, 4)) {
    case 0:
        return slot->asked + model_below(thread, 100);
    case 1:
        return slot->asked / 2;
    case 2:
        return slot->asked < CHECK_MIB ? slot->asked * 2 : slot->asked;
    default:
        return model_size(thread);
    }
}

static void resize(struct thread *thread, struct slot *slot) {
    size_t size = new_size(thread, slot);
    void *block;
    if (thread->live > live_bytes_max && size > slot->asked) size = slot->asked;
    model_verify(slot);
    if (size == 0) size = 1;
    if (slot->heap != 0) {
        if (!model_own_realloc(thread, slot, size, &block)) return;
    } else if (model_below(thread, 4) == 0) {
        block = model_reallocarray(check_hidden(slot->block), size % 2 == 0 ? 2 : 1,
                                   size % 2 == 0 ? size / 2 : size);
    } else {
        block = model_realloc(check_hidden(slot->block), size);
    }
    if (model_refused(block)) {
        model_verify(slot);
        return;
    }
    CHECK_THAT(block != NULL, "realloc to %zu bytes failed, errno %d", size, errno);
    /* The pattern comes in words: compare whole ones, of which the new block has all bytes. */
    size_t same = (size < slot->size ? size : slot->size) / 8 * 8;
    CHECK_FILLED(block, same, slot->seed);
    int heap = slot->heap;
    model_leave(thread, slot);
    model_enter(thread, slot, block, size, 0, heap);
}

/* What cannot be done leaves everything as it is. */
static void fail(struct thread *thread, struct slot *slot) {
    size_t size = check_size((size_t)PTRDIFF_MAX - model_below(thread, 3) * 4096);
    errno = 0;
    CHECK(check_hidden(model_malloc(size)) == NULL);
    CHECK_EQ(errno, ENOMEM);
    errno = 0;
    CHECK(check_hidden(model_calloc(check_size(SIZE_MAX / 2), 3)) == NULL);
    CHECK_EQ(errno, ENOMEM);
    if (slot->block == NULL || slot->heap != 0) return;
    errno = 0;
    CHECK(check_hidden(model_realloc(check_hidden(slot->block), size)) == NULL);
    CHECK_EQ(errno, ENOMEM);
    model_verify(slot);
}

void model_step(struct thread *thread) {
    struct slot *slot = &thread->slots[model_below(thread, MODEL_SLOTS)];
    size_t draw = model_below(thread, 1000);
    errno = 0;
    if (draw == 0) {
        fail(thread, slot);
    } else if (draw == 1 && model_below(thread, 40) == 0) {
        model_trim();
    } else if (draw < 150) {
        model_hand_over(thread, slot);
    } else if (draw < 250 && model_own_step(thread, slot)) {
        return;
    } else if (slot->block == NULL) {
        allocate(thread, slot);
    } else if (draw < 400) {
        resize(thread, slot);
    } else if (draw < 450) {
        model_verify(slot);
    } else {
        model_free_slot(thread, slot);
    }
}
