/*
 * guard.c - the pool of guarded blocks.
 *
 *     | guard | slot 0 | guard | slot 1 | guard | ... | slot 1023 | guard |     pages of the kernel
 *
 *     |.....xxx[ block ]|   at the end: the first byte behind it, or behind the few bytes that its
 *                           alignment leaves, is on a guard page
 *     |[ block ]xxx.....|   or at the start: the last byte before it is
 *
 * The pool is one reservation outside the regions, so that the fast path of free refuses its blocks
 * as it does all pointers that it does not know. No page of it is accessible but those of live
 * blocks. Which of the two places a block gets is drawn for each. Bytes beside it on its own page,
 * x in the picture, are filled with a pattern that must be whole when it is freed.
 *
 * Free slots stand in a queue, the longest free in front; it begins shuffled. So a freed block
 * stays inaccessible while as many others are sampled as there are free slots.
 *
 *     queue  [ slot numbers ... ]     taken: how many were taken from it, ever;  given: put into it
 *
 * What is known of a slot lies elsewhere, in `slots`. A slot is written by the thread that took it
 * from the queue, or that changed its state from LIVE to FREED; others read it by the state.
 * pool_lock guards the queue, is a leaf, and is not held over a system call. In the child of fork
 * it is made free; a slot that another thread had in hand is lost to it.
 *
 * After GWP-ASan (Serebryany and others, ICSE 2024).
 */
#include "sample/guard.h"

#include <string.h>

#include "os/lock.h"
#include "os/os.h"
#include "sample/sampler.h"
#include "sample/stack.h"

#define SLOTS 1024u
#define WATCH_EVERY 8 /* blocks between looks at whose signal handler is installed */
#define BESIDE 32u    /* bytes on either side that must keep the pattern */
#define MARGIN (1 * LU_MIB + LU_SLICE) /* no access before and behind the pool, for wild ones */

struct lu__guard_range lu__guard;
static struct guard_slot *slots;
static struct lu__lock pool_lock = LU_LOCK_INIT(LU_RANK_LEAF);
static uint16_t queue[SLOTS];         /* under pool_lock, as the counts */
static uint32_t taken, given;         /* taken == given: no slot is free */
static size_t live_count, live_bytes; /* atomic */
static uint32_t watched;              /* atomic: blocks handed out */

static uintptr_t page_of(const struct guard_slot *slot) {
    return lu__guard.base + (2 * (uintptr_t)(slot - slots) + 1) * LU_OS_PAGE;
}

const struct guard_slot *lu__guard_slot(size_t number) {
    return number < SLOTS ? &slots[number] : NULL;
}

bool lu__guard_make(uint64_t random) {
    void *memory, *range;
    size_t size = (2 * SLOTS + 1) * LU_OS_PAGE, reserved = size + 2 * MARGIN;
    size_t bytes = lu__align_up(SLOTS * sizeof *slots, LU_OS_PAGE);
    if (lu__os_reserve(reserved, LU_OS_PAGE, &range) != 0) return false;
    if (lu__os_map(bytes, LU_OS_PAGE, &memory) != 0) {
        (void)lu__os_unmap(range, reserved);
        return false;
    }
    slots = memory;
    for (uint32_t i = 0; i < SLOTS; i++) { /* Fisher and Yates, from the inside out */
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint32_t j = (uint32_t)((random >> 32) % (i + 1));
        queue[i] = queue[j];
        queue[j] = (uint16_t)i;
    }
    given = SLOTS;
    lu__guard.base = (uintptr_t)range + MARGIN;
    __atomic_store_n(&lu__guard.size, size, __ATOMIC_RELEASE);
    lu__stack_init();
    return true;
}

static struct guard_slot *take_slot(void) {
    struct guard_slot *slot = NULL;
    lu__lock_acquire(&pool_lock);
    if (taken != given) {
        slot = &slots[queue[taken % SLOTS]];
        __atomic_store_n(&taken, taken + 1, __ATOMIC_RELEASE);
    }
    lu__lock_release(&pool_lock);
    return slot;
}

static void give_slot(const struct guard_slot *slot) {
    lu__lock_acquire(&pool_lock);
    queue[given % SLOTS] = (uint16_t)(slot - slots);
    __atomic_store_n(&given, given + 1, __ATOMIC_RELEASE);
    lu__lock_release(&pool_lock);
}

/* ---------------------------------------------------------------- what lies beside a block */

static const unsigned char filling[BESIDE] = {
    0x5b, 0x80, 0xa5, 0xca, 0xef, 0x14, 0x39, 0x5e, 0x83, 0xa8, 0xcd, 0xf2, 0x17, 0x3c, 0x61, 0x86,
    0xab, 0xd0, 0xf5, 0x1a, 0x3f, 0x64, 0x89, 0xae, 0xd3, 0xf8, 0x1d, 0x42, 0x67, 0x8c, 0xb1, 0xd6,
};

/* Bytes of the filling in front of the block and behind it. */
static size_t room_before(const struct guard_slot *slot) {
    return LU_MIN(slot->block - page_of(slot), BESIDE);
}

static size_t room_behind(const struct guard_slot *slot) {
    return LU_MIN(page_of(slot) + LU_OS_PAGE - slot->block - slot->size, BESIDE);
}

static void fill_beside(const struct guard_slot *slot) {
    size_t before = room_before(slot);
    memcpy((void *)(slot->block - before), filling, before);
    memcpy((void *)(slot->block + slot->size), filling, room_behind(slot));
}

/* Report what was written there, of each side the byte nearest to the block. */
static LU_COLD void report_beside(const struct guard_slot *slot, const char *call) {
    size_t before = room_before(slot), behind = room_behind(slot), i;
    const unsigned char *start = (const unsigned char *)slot->block, *end = start + slot->size;
    for (i = 0; i < behind && end[i] == filling[i];) i++;
    if (i < behind) lu__guard_misuse(LU_OVERFLOW, call, end + i, slot, "found written to");
    for (i = 1; i <= before && start[-(ptrdiff_t)i] == filling[before - i];) i++;
    if (i <= before)
        lu__guard_misuse(LU_GUARD_UNDERFLOW, call, start - i, slot, "found written to");
}

static void check_beside(const struct guard_slot *slot, const char *call) {
    size_t before = room_before(slot);
    if (LU_UNLIKELY(memcmp((void *)(slot->block - before), filling, before) != 0 ||
                    memcmp((void *)(slot->block + slot->size), filling, room_behind(slot)) != 0)) {
        report_beside(slot, call);
    }
}

/* ---------------------------------------------------------------- blocks */

/* A block of `size` bytes at a multiple of `align`, both at most a page; NULL: no slot is free, or
 * no memory. `at_end`: at the end of the page, not at its start. */
static void *alloc(size_t align, size_t size, bool at_end) {
    if (__atomic_fetch_add(&watched, 1, __ATOMIC_RELAXED) % WATCH_EVERY == 0) lu__guard_watch();
    struct guard_slot *slot = take_slot();
    if (slot == NULL) return NULL;
    uintptr_t page = page_of(slot);
    if (lu__os_commit((void *)page, LU_OS_PAGE) != 0) {
        give_slot(slot);
        return NULL;
    }
    align = LU_MAX(align, size < 16 ? 8u : 16u);
    /* A block of no bytes too has an address on its page. */
    slot->block = at_end ? lu__align_down(page + LU_OS_PAGE - LU_MAX(size, 1), align) : page;
    slot->size = (uint32_t)size;
    lu__record_here(&slot->allocated);
    slot->freed.count = 0;
    memset((void *)slot->block, 0, size); /* of the block that was here before */
    fill_beside(slot);
    __atomic_fetch_add(&live_count, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&live_bytes, size, __ATOMIC_RELAXED);
    __atomic_store_n(&slot->state, GUARD_LIVE, __ATOMIC_RELEASE);
    return (void *)slot->block;
}

void *lu__guard_try(struct heap *heap, size_t align, size_t size, bool *zero) {
    bool in_burst;
    if (!lu__sampler_draw(heap, size, &in_burst)) return NULL;
    if (size > LU_OS_PAGE || align > LU_OS_PAGE) return NULL;
    void *block = alloc(align, size, in_burst || lu__sampler_coin(heap));
    *zero = block != NULL;
    return block;
}

/* The slot on whose page `address` lies; NULL on a guard page. */
static struct guard_slot *slot_of(const void *address) {
    size_t page = ((uintptr_t)address - lu__guard.base) / LU_OS_PAGE;
    return page % 2 == 1 ? &slots[page / 2] : NULL;
}

bool lu__guard_find(const void *pointer, const char *call, size_t *size) {
    const struct guard_slot *slot = slot_of(pointer);
    uint32_t state = GUARD_UNUSED;
    if (slot != NULL) state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);
    if (state == GUARD_LIVE && slot->block == (uintptr_t)pointer) {
        *size = slot->size;
        return true;
    }
    if (state == GUARD_UNUSED) {
        lu__guard_misuse(LU_WILD_POINTER, call, pointer, NULL, "passed");
    } else if (slot->block == (uintptr_t)pointer) {
        lu__guard_misuse(LU_DOUBLE_FREE, call, pointer, slot, "passed again");
    } else {
        lu__guard_misuse(LU_INTERIOR_POINTER, call, pointer, slot, "passed");
    }
    return false;
}

void lu__guard_free(void *block) {
    struct guard_slot *slot = slot_of(block);
    uint32_t expected = GUARD_LIVE;
    if (lu__thread_interrupted()) return; /* a signal handler: lost, rather than a deadlock */
    check_beside(slot, "free");           /* outside: the handler is the program's */
    if (!__atomic_compare_exchange_n(&slot->state, &expected, GUARD_FREED, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_RELAXED)) {
        lu__guard_misuse(LU_DOUBLE_FREE, "free", block, slot, "passed again"); /* at once */
        return;
    }
    if (!lu__thread_mark()) return;
    lu__record_here(&slot->freed);
    /* Not purged: that saves a system call now and a fault the next time. */
    if (lu__os_protect((void *)page_of(slot), LU_OS_PAGE) != 0) {
        /* Use of it is not noticed then; nothing is lost. */
    }
    __atomic_fetch_sub(&live_count, 1, __ATOMIC_RELAXED);
    __atomic_fetch_sub(&live_bytes, slot->size, __ATOMIC_RELAXED);
    give_slot(slot);
    lu__inside_leave();
}

void lu__guard_figures(size_t *blocks, size_t *bytes) {
    *blocks = __atomic_load_n(&live_count, __ATOMIC_RELAXED);
    *bytes = __atomic_load_n(&live_bytes, __ATOMIC_RELAXED);
}

void lu__guard_fork_child(void) {
    lu__record_fork_child();
    (void)lu__lock_fork_child(&pool_lock);
    lu__guard_watch_fork_child();
}
