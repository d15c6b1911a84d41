/*
 * huge.c - blocks in mappings of their own.
 *
 * From mmap_threshold up a block is one mapping: its pages come and go with it, and mremap resizes
 * it without copying. The blocks are few and large, so they are found in a hash table keyed by
 * their start (open addressing, linear probing, doubled when half full), under one lock.
 *
 *     slots  [ block bytes owner ] [ - ] [ block 0 - ] ...      bytes == 0: given up, reusable
 *
 * Every change of a slot is complete before the one store that reveals it, so that the child of
 * fork can go on with the table as it is.
 */
#include "span/huge.h"

#include "os/lock.h"
#include "os/os.h"
#include "span/span.h"

#define SLOTS_LEAST 128
#define ADDRESSES ((size_t)1 << 47) /* no mapping can be larger */

static struct lu__huge *slots; /* NULL before the first block */
static size_t slot_count;
static size_t slots_touched; /* not NULL, given up ones included */
static size_t moving;        /* blocks that are out of the table only while mremap moves them */
static struct lu__lock huge_lock = LU_LOCK_INIT(LU_RANK_LEAF);

static size_t hash(const void *block, size_t count) {
    return (((uintptr_t)block >> 12) * 0x9e3779b97f4a7c15u >> 20) & (count - 1);
}

static struct lu__huge *slot_of(const void *block) {
    for (size_t i = hash(block, slot_count);; i = (i + 1) & (slot_count - 1)) {
        if (slots[i].block == block && slots[i].bytes != 0) return &slots[i];
        if (slots[i].block == NULL) return NULL;
    }
}

/* True if the slot was never used before. */
static bool slot_fill(struct lu__huge *table, size_t count, const struct lu__huge *entry) {
    size_t i = hash(entry->block, count);
    while (table[i].bytes != 0) i = (i + 1) & (count - 1); /* never used, or given up */
    bool never_used = table[i].block == NULL;
    table[i].owner = entry->owner;
    __atomic_store_n(&table[i].block, entry->block, __ATOMIC_RELEASE);
    __atomic_store_n(&table[i].bytes, entry->bytes, __ATOMIC_RELEASE);
    return never_used;
}

/* Make room for one more slot. */
static bool slots_reserve(void) {
    if (slots_touched * 2 < slot_count) return true;
    size_t live = 0;
    for (size_t i = 0; i < slot_count; i++) live += slots[i].bytes != 0;
    size_t count = (live + moving) * 4 < slot_count ? slot_count
                                                    : LU_MAX(slot_count * 2, SLOTS_LEAST);
    void *memory;
    if (lu__os_map(lu__align_up(count * sizeof *slots, LU_OS_PAGE), LU_OS_PAGE, &memory) != 0) {
        /* Go on with a fuller table, but leave room for the blocks that come back to it. */
        return slots_touched + moving + 1 < slot_count;
    }
    struct lu__huge *bigger = memory, *old = slots;
    size_t old_count = slot_count;
    for (size_t i = 0; i < old_count; i++) {
        if (old[i].bytes != 0) (void)slot_fill(bigger, count, &old[i]);
    }
    /* The larger count belongs to the new table only: in a forked child a small count with the
     * new table loses lookups, a large count with the old one would leave it. */
    __atomic_store_n(&slots, bigger, __ATOMIC_RELEASE);
    __atomic_store_n(&slot_count, count, __ATOMIC_RELEASE);
    slots_touched = live;
    if (old != NULL) {
        lu__os_unmap(old, lu__align_up(old_count * sizeof *slots, LU_OS_PAGE));
    }
    return true;
}

/* A block that `moved` was in the table before, and there is room for it. */
static bool remember(char *block, size_t bytes, struct heap *owner, bool moved) {
    const struct lu__huge entry = {block, bytes, owner};
    lu__lock_acquire(&huge_lock);
    moving -= moved;
    bool done = slots_reserve() || moved;
    if (done) {
        slots_touched += slot_fill(slots, slot_count, &entry);
        __atomic_store_n(&lu__span_figures.huge_blocks, lu__span_figures.huge_blocks + 1,
                         __ATOMIC_RELAXED);
    }
    lu__lock_release(&huge_lock);
    return done;
}

/* `moves`: only until it is remembered again. */
static bool forget(const void *block, struct lu__huge *out, bool moves) {
    lu__lock_acquire(&huge_lock);
    struct lu__huge *slot = slot_of(block);
    if (slot != NULL) {
        *out = *slot;
        moving += moves;
        __atomic_store_n(&slot->bytes, 0, __ATOMIC_RELEASE);
        __atomic_store_n(&lu__span_figures.huge_blocks, lu__span_figures.huge_blocks - 1,
                         __ATOMIC_RELAXED);
    }
    lu__lock_release(&huge_lock);
    return slot != NULL;
}

void *lu__huge_alloc(size_t size, size_t align, struct heap *owner) {
    size_t bytes = lu__align_up(size, LU_OS_PAGE);
    if (bytes < size || bytes > ADDRESSES || !lu__span_charge(bytes)) return NULL;
    void *block;
    if (lu__os_map(bytes, LU_MAX(align, LU_OS_PAGE), &block) != 0) {
        lu__span_uncharge(bytes);
        return NULL;
    }
    if (!remember(block, bytes, owner, false)) {
        lu__os_unmap(block, bytes);
        lu__span_uncharge(bytes);
        return NULL;
    }
    lu__span_note_peak();
    return block;
}

static bool find_locked(const void *address, struct lu__huge *out) {
    const struct lu__huge *slot = slot_of(address);
    for (size_t i = 0; slot == NULL && i < slot_count; i++) {
        if ((uintptr_t)address - (uintptr_t)slots[i].block < slots[i].bytes) slot = &slots[i];
    }
    if (slot != NULL) *out = *slot;
    return slot != NULL;
}

enum lu__huge_place lu__huge_find(const void *address, struct lu__huge *out) {
    if (__atomic_load_n(&lu__span_figures.huge_blocks, __ATOMIC_RELAXED) == 0) return LU_HUGE_NONE;
    if (lu__lock_is_mine(&huge_lock)) { /* in a signal handler: it would wait for ever */
        return find_locked(address, out) ? LU_HUGE_FOUND : LU_HUGE_UNKNOWN;
    }
    bool entered = lu__inside_enter(); /* else in such a handler, above some other lock */
    lu__lock_acquire_above(&huge_lock);
    bool found = find_locked(address, out);
    lu__lock_release(&huge_lock);
    if (entered) lu__inside_leave();
    return found ? LU_HUGE_FOUND : LU_HUGE_NONE;
}

bool lu__huge_free(void *block) {
    struct lu__huge entry;
    if (!forget(block, &entry, false)) return false;
    __atomic_fetch_add(&lu__span_figures.returned, entry.bytes, __ATOMIC_RELAXED);
    lu__span_uncharge(entry.bytes);
    if (lu__os_unmap(entry.block, entry.bytes) != 0 &&
        lu__os_purge(entry.block, entry.bytes) != 0) {
        return true; /* neither: the pages stay, the address space is lost, nothing else is */
    }
    return true;
}

void *lu__huge_resize(void *block, size_t size) {
    size_t bytes = lu__align_up(size, LU_OS_PAGE);
    struct lu__huge entry;
    if (bytes < size || lu__huge_find(block, &entry) != LU_HUGE_FOUND || entry.block != block) {
        return NULL;
    }
    if (bytes == entry.bytes) return block;
    if (bytes > ADDRESSES) return NULL;
    if (bytes > entry.bytes && !lu__span_charge(bytes - entry.bytes)) return NULL;
    void *moved;
    /* Out of the table while it has no certain address: another thread may be given the old one
     * as soon as mremap has left it. */
    (void)forget(block, &entry, true);
    if (lu__os_remap(block, entry.bytes, bytes, &moved) != 0) {
        if (bytes > entry.bytes) lu__span_uncharge(bytes - entry.bytes);
        (void)remember(block, entry.bytes, entry.owner, true);
        return NULL;
    }
    if (bytes < entry.bytes) lu__span_uncharge(entry.bytes - bytes);
    (void)remember(moved, bytes, entry.owner, true);
    lu__span_note_peak();
    return moved;
}

void lu__huge_each(const struct heap *owner, void (*visit)(const struct lu__huge *, void *),
                   void *arg) {
    bool entered = lu__inside_enter();
    lu__lock_acquire(&huge_lock);
    for (size_t i = 0; i < slot_count; i++) {
        if (slots[i].bytes != 0 && slots[i].owner == owner) visit(&slots[i], arg);
    }
    lu__lock_release(&huge_lock);
    if (entered) lu__inside_leave();
}

void lu__huge_fork_child(void) {
    (void)lu__lock_fork_child(&huge_lock);
}
