/*
 * slots.c - blocks in slots: patterns, checks, and the cells between threads.
 *
 * The pattern runs over the whole block and depends on a seed that no other block has, so a block
 * that overlaps another shows in whichever is checked first. A cell is a slot with a lock bit; who
 * takes it sees what the thread before wrote into the block.
 */
#include <sched.h>
#include <stdatomic.h>

#include "model.h"

static struct cell {
    atomic_flag taken;
    struct slot slot;
} cells[MODEL_CELLS];

static atomic_uint_fast64_t seeds;

size_t model_below(struct thread *thread, size_t bound) {
    return (size_t)(check_random(&thread->random) % bound);
}

size_t model_size(struct thread *thread) {
    size_t draw = model_below(thread, 1000);
    unsigned bits = draw < 2 ? 23 : draw < 10 ? 20 : draw < 40 ? 17 : draw < 150 ? 14 : 10;
    return check_random_size(&thread->random, bits);
}

static void check_place(const struct slot *slot) {
    size_t natural = slot->asked >= 16 ? 16 : 8;
    CHECK_ALIGNED(slot->block, slot->alignment > natural ? slot->alignment : natural);
    size_t usable = model_usable_size(slot->block);
    CHECK_THAT(usable >= slot->asked, "block %p: %zu asked for, %zu usable", (void *)slot->block,
               slot->asked, usable);
    CHECK_THAT(usable >= slot->size, "block %p: %zu bytes were usable, now %zu",
               (void *)slot->block, slot->size, usable);
}

void model_enter(struct thread *thread, struct slot *slot, void *block, size_t size,
                 size_t alignment, int heap) {
    *slot = (struct slot){.block = block,
                          .size = size,
                          .asked = size,
                          .alignment = alignment,
                          .seed = atomic_fetch_add_explicit(&seeds, 1, memory_order_relaxed),
                          .heap = heap};
    check_place(slot);
    if (size < 65536 && model_below(thread, 2) == 0) slot->size = model_usable_size(block);
    check_fill(slot->block, slot->size, slot->seed);
    thread->live += slot->size;
}

void model_verify(const struct slot *slot) {
    check_place(slot);
    CHECK_FILLED(slot->block, slot->size, slot->seed);
}

void model_leave(struct thread *thread, struct slot *slot) {
    thread->live -= slot->size;
    slot->block = NULL;
}

void model_hand_over(struct thread *thread, struct slot *slot) {
    if (slot->heap >= 1 && slot->heap <= MODEL_OWN_HEAPS && slot->block != NULL) return;
    struct cell *cell = &cells[model_below(thread, MODEL_CELLS)];
    while (atomic_flag_test_and_set_explicit(&cell->taken, memory_order_acquire)) sched_yield();
    struct slot mine = *slot;
    *slot = cell->slot;
    cell->slot = mine;
    atomic_flag_clear_explicit(&cell->taken, memory_order_release);
    if (mine.block != NULL) thread->live -= mine.size;
    if (slot->block != NULL) thread->live += slot->size;
}

void model_empty_cells(void) {
    static struct thread nobody;
    for (size_t i = 0; i < MODEL_CELLS; i++) {
        if (cells[i].slot.block == NULL) continue;
        nobody.live += cells[i].slot.size;
        model_free_slot(&nobody, &cells[i].slot);
    }
}
