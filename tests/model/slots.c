/*
 * slots.c - the slots of the threads, random sizes, and the cells between threads.
 *
 * What a slot says of its block, and how that is checked, is tests/support/shadow.c. A cell is a
 * slot with a lock bit; who takes it sees what the thread before wrote into the block.
 */
#include <sched.h>
#include <stdatomic.h>

#include "model.h"

static struct cell {
    atomic_flag taken;
    struct slot slot;
} cells[MODEL_CELLS];

size_t model_below(struct thread *thread, size_t bound) {
    return (size_t)(check_random(&thread->random) % bound);
}

size_t model_size(struct thread *thread) {
    size_t draw = model_below(thread, 1000);
    unsigned bits = draw < 2 ? 23 : draw < 10 ? 20 : draw < 40 ? 17 : draw < 150 ? 14 : 10;
    return check_random_size(&thread->random, bits);
}

void model_enter(struct thread *thread, struct slot *slot, void *block, size_t size,
                 size_t alignment, int heap) {
    bool all = size < 65536 && model_below(thread, 2) == 0;
    shadow_enter(slot, block, size, alignment, heap, all ? SIZE_MAX : size);
    thread->live += slot->size;
}

void model_verify(const struct slot *slot) {
    shadow_verify(slot);
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
