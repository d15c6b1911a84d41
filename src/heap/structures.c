/*
 * structures.c - memory for the structures of heaps, of threads and of programs alike.
 *
 *     banks -> [10 structures] -> [10 structures] -> ...    runs of one slice, linked by all_next
 *     roomy -> those with a free structure                  by next and prev
 *     empty -> those without one in use, whose pages went   by next
 *              back to the system
 *
 * A structure is never unmapped, and no run of them ever used for anything else: others walk all
 * heaps at any time without a lock, and a thread that frees a block of a heap which another thread
 * destroys looks at its structure. What they find there is a heap, or a page of zeros, which stands
 * for none (LU_HEAP_UNMADE). So pages of structures go back where they are, and the run no longer
 * counts as used meanwhile.
 *
 * Under pool_lock (pool.c), but for lu__heap_each.
 */
#include <string.h>

#include "base/options.h"
#include "heap/heap.h"
#include "os/os.h"

#define STRUCTURE_BYTES lu__align_up(sizeof(struct heap), 64)
#define PER_BANK ((uint32_t)(LU_SLICE / STRUCTURE_BYTES))
#define ALL ((1u << PER_BANK) - 1)
#define KEEP 64u /* free structures whose pages stay */

static struct heap first; /* no page of a region for the only heap of most processes */
static enum { FIRST_NEW, FIRST_USED, FIRST_FREE } first_state;
static struct span *banks; /* atomic; grows only */
static struct span *roomy, *empty;
static uint32_t free_count; /* structures in the banks of `roomy` */

static struct heap *structure_at(const struct span *bank, uint32_t i) {
    return (struct heap *)(void *)(lu__span_start(bank) + i * STRUCTURE_BYTES);
}

void lu__heap_each(void (*visit)(struct heap *, void *), void *arg) {
    if (__atomic_load_n(&first_state, __ATOMIC_RELAXED) != FIRST_NEW) visit(&first, arg);
    struct span *bank = __atomic_load_n(&banks, __ATOMIC_ACQUIRE);
    for (; bank != NULL; bank = bank->all_next) {
        uint32_t made = __atomic_load_n(&bank->made, __ATOMIC_ACQUIRE);
        for (uint32_t i = 0; i < made; i++) visit(structure_at(bank, i), arg);
    }
}

/* ---------------------------------------------------------------- banks */

static void push_roomy(struct span *bank) {
    bank->prev = NULL;
    bank->next = roomy;
    if (roomy != NULL) roomy->prev = bank;
    roomy = bank;
}

static void remove_roomy(struct span *bank) {
    if (bank->prev != NULL) {
        bank->prev->next = bank->next;
    } else {
        roomy = bank->next;
    }
    if (bank->next != NULL) bank->next->prev = bank->prev;
}

static bool add_bank(void) {
    bool zero;
    struct span *bank = lu__run_alloc(1, 1, LU_KIND_META, &zero);
    if (bank == NULL) return false;
    if (!zero) memset(lu__span_start(bank), 0, LU_SLICE);
    bank->in_use = bank->made = bank->gone = 0;
    bank->all_next = banks;
    LU_SET(banks, bank);
    free_count += PER_BANK;
    push_roomy(bank);
    return true;
}

static bool wake_bank(void) {
    struct span *bank = empty;
    if (!lu__run_wake(bank)) return false;
    empty = bank->next;
    free_count += PER_BANK;
    push_roomy(bank);
    return true;
}

/* No structure of it is in use. False: the kernel keeps its pages. */
static bool retire_bank(struct span *bank) {
    if (!lu__run_retire(bank)) return false;
    LU_SET(bank->made, 0);
    bank->gone = 0;
    free_count -= PER_BANK;
    remove_roomy(bank);
    bank->next = empty;
    empty = bank;
    return true;
}

/* The pages that lie in the structures of `mask` from the i-th on, up to the first that is not of
 * it, which is returned. */
static uint32_t pages_of(const struct span *bank, uint32_t mask, uint32_t i, uintptr_t *from,
                         uintptr_t *to) {
    uint32_t end = i;
    while ((mask >> end & 1) != 0) end++;
    *from = lu__align_up((uintptr_t)structure_at(bank, i), LU_OS_PAGE);
    *to = lu__align_down((uintptr_t)structure_at(bank, end), LU_OS_PAGE);
    if (end == i) *to = *from;
    return end;
}

static size_t covered(const struct span *bank, uint32_t mask) {
    size_t bytes = 0;
    for (uint32_t i = 0, end; i < PER_BANK; i = end + 1) {
        uintptr_t from, to;
        end = pages_of(bank, mask, i, &from, &to);
        if (from < to) bytes += to - from;
    }
    return bytes;
}

/* ---------------------------------------------------------------- take and give */

/* Make all of it zero. A thread that uses an ended heap, and does wrong, may have its lock and be
 * about to release it. */
static void clear(struct heap *heap) {
    size_t lock = offsetof(struct heap, lock), behind = lock + sizeof heap->lock;
    memset(heap, 0, lock);
    memset((char *)heap + behind, 0, sizeof *heap - behind);
}

struct heap *lu__structure_take(void) {
    if (first_state != FIRST_USED) {
        LU_SET(first_state, FIRST_USED);
        clear(&first);
        return &first;
    }
    if (roomy == NULL && !(empty != NULL ? wake_bank() : add_bank())) return NULL;
    struct span *bank = roomy;
    uint32_t i = (uint32_t)__builtin_ctz(~bank->in_use);
    struct heap *heap = structure_at(bank, i);
    uint16_t gone = (uint16_t)(bank->gone & ~(1u << i));
    if (gone != bank->gone && !lu__run_meta_absent(bank, covered(bank, gone))) return NULL;
    bank->gone = gone;
    LU_SET(bank->in_use, bank->in_use | 1u << i);
    free_count--;
    if (bank->in_use == ALL) remove_roomy(bank);
    clear(heap);
    if (i >= bank->made) LU_SET(bank->made, i + 1);
    return heap;
}

void lu__structure_give(struct heap *heap) {
    /* First: it is none that the child of fork could pool. */
    __atomic_store_n(&heap->kind, LU_HEAP_UNMADE, __ATOMIC_RELAXED);
    heap->alone = heap->shared = 0;
    if (heap == &first) {
        LU_SET(first_state, FIRST_FREE);
        return;
    }
    const struct region *region = lu__region_of(heap);
    size_t offset = (size_t)((char *)heap - region->base);
    struct span *bank = lu__region_desc(region, offset >> LU_SLICE_SHIFT);
    uint32_t i = (uint32_t)((offset & (LU_SLICE - 1)) / STRUCTURE_BYTES);
    if (bank->in_use == ALL) push_roomy(bank);
    free_count++;
    LU_SET(bank->in_use, bank->in_use & ~(1u << i));
    bool keep = free_count <= KEEP || lu__option(LU_OPT_PURGE_DELAY) < 0;
    if (bank->in_use == 0 && !keep) (void)retire_bank(bank);
}

/* ---------------------------------------------------------------- giving back */

/* Pages that free structures cover, between those in use. Bytes. */
static size_t purge_between(struct span *bank) {
    uint32_t wanted = ~bank->in_use & ((1u << bank->made) - 1), kept = 0;
    size_t before = covered(bank, bank->gone);
    if ((wanted & ~(uint32_t)bank->gone) == 0) return 0;
    for (uint32_t i = 0, end; i < PER_BANK; i = end + 1) {
        uintptr_t from, to;
        end = pages_of(bank, wanted, i, &from, &to);
        if (from < to && lu__os_purge((void *)from, to - from) != 0) {
            kept |= (1u << end) - (1u << i);
        }
    }
    bank->gone = (uint16_t)(wanted & ~kept);
    size_t absent = covered(bank, bank->gone), bytes = absent > before ? absent - before : 0;
    if (!lu__run_meta_absent(bank, absent)) return 0;
    __atomic_fetch_add(&lu__span_figures.returned, bytes, __ATOMIC_RELAXED);
    return bytes;
}

size_t lu__structures_purge(void) {
    size_t bytes = 0;
    for (struct span *bank = roomy, *next; bank != NULL; bank = next) {
        next = bank->next;
        if (bank->in_use != 0) {
            bytes += purge_between(bank);
        } else if (retire_bank(bank)) {
            bytes += LU_SLICE;
        }
    }
    return bytes;
}

/* ---------------------------------------------------------------- fork */

void lu__structures_fork_child(void) {
    roomy = empty = NULL;
    free_count = 0;
    for (struct span *bank = banks; bank != NULL; bank = bank->all_next) {
        if (bank->retired) {
            bank->made = 0;
            bank->next = empty;
            empty = bank;
        } else if (bank->in_use != ALL) {
            free_count += PER_BANK - (uint32_t)__builtin_popcount(bank->in_use);
            push_roomy(bank);
        }
    }
}
