/*
 * shadow.c - blocks in slots: their patterns and what must be true of where they are.
 *
 * The pattern runs from the start of the block and depends on a seed that no other block has, so a
 * block that overlaps another shows in whichever is checked first. Seeds are numbered by one atomic
 * counter; slots belong to whoever calls.
 */
#include "shadow.h"

#include <stdatomic.h>

#ifdef MODEL_LU
#include "lucid/lucid.h"
#define usable_size lu_usable_size
#else
#include <malloc.h>
#define usable_size malloc_usable_size
#endif

static atomic_uint_fast64_t seeds;

static void check_place(const struct slot *slot) {
    size_t natural = slot->asked >= 16 ? 16 : 8;
    CHECK_ALIGNED(slot->block, slot->alignment > natural ? slot->alignment : natural);
    size_t usable = usable_size(slot->block);
    CHECK_THAT(usable >= slot->asked, "block %p: %zu asked for, %zu usable", (void *)slot->block,
               slot->asked, usable);
    CHECK_THAT(usable >= slot->size, "block %p: %zu bytes were usable, now %zu",
               (void *)slot->block, slot->size, usable);
}

void shadow_enter(struct slot *slot, void *block, size_t size, size_t alignment, int heap,
                  size_t pattern) {
    *slot = (struct slot){.block = block,
                          .size = pattern,
                          .asked = size,
                          .alignment = alignment,
                          .seed = atomic_fetch_add_explicit(&seeds, 1, memory_order_relaxed),
                          .heap = heap};
    if (pattern == SIZE_MAX) slot->size = usable_size(block);
    check_place(slot);
    check_fill(slot->block, slot->size, slot->seed);
}

void shadow_verify(const struct slot *slot) {
    check_place(slot);
    CHECK_FILLED(slot->block, slot->size, slot->seed);
}
