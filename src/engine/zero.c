/*
 * zero.c - malloc(0): a pointer that is unique, can be freed, and points at nothing.
 *
 * C leaves open what a block of no bytes is. Whoever reads or writes one has made a mistake, so it
 * lies where every access faults (as in OpenBSD's malloc):
 *
 *     names   | 16 | 16 | 16 | ...      1 MiB of address space without access
 *     bits    1 bit for each: live      8 KiB
 *
 * and further parts, each twice as long as the last one, to 1 GiB in all: when the search has come
 * to the end of all and more than half are live. Names are given in order, round and round, so that
 * one that was freed is not soon given again. Where the address space cannot be had, malloc(0)
 * gives a block of the smallest class instead; so does a call that finds no name among the LOOKS
 * words where the search stands, as that is under a lock. The next call goes on behind them.
 *
 * The lock guards the search; a bit is cleared without it.
 */
#include "engine/zero.h"

#include "base/options.h"
#include "os/lock.h"
#include "os/os.h"

#define NAME_SHIFT 4
#define LOOKS 4096u     /* words in one call; 1 to 2 us */
#define ASK_AGAIN 1024u /* calls, where the system had no room for the first names */

static struct lu__lock zero_lock = LU_LOCK_INIT(LU_RANK_LEAF);
struct lu__zero lu__zero;

static size_t names_bytes(unsigned part) {
    return (lu__zero_words(part) * 64) << NAME_SHIFT;
}

static size_t bits_bytes(unsigned part) {
    return lu__align_up(lu__zero_words(part) * sizeof(uint64_t), LU_OS_PAGE);
}

/* One part more, if it can be had. Locked. */
static void make(void) {
    unsigned part = lu__zero.parts;
    size_t bytes = bits_bytes(part);
    void *space, *memory;
    if (lu__os_map(bytes, LU_OS_PAGE, &memory) != 0) return;
    if (lu__os_reserve(names_bytes(part), LU_OS_PAGE, &space) != 0) {
        lu__os_unmap(memory, bytes);
        return;
    }
    lu__zero.part[part].bits = memory;
    __atomic_store_n(&lu__zero.part[part].names, (uintptr_t)space, __ATOMIC_RELEASE);
    lu__zero.parts = part + 1;
}

/* The search goes on with the next word. Locked. */
static void step(void) {
    size_t words = lu__zero_before(lu__zero.parts);
    if (++lu__zero.next < words) return;
    size_t live = __atomic_load_n(&lu__zero.live, __ATOMIC_RELAXED);
    if (live > words * 32 && lu__zero.parts < LU_ZERO_PARTS) make();
    if (lu__zero_before(lu__zero.parts) == words) lu__zero.next = 0;
}

/* Locked. A name that was free, or NULL. */
static void *take(void) {
    for (unsigned looked = 0; looked < LOOKS; looked++) {
        size_t at = lu__zero.next;
        uint64_t *bits = lu__zero_word(at), word = __atomic_load_n(bits, __ATOMIC_ACQUIRE);
        if ((word | (word + 1)) == UINT64_MAX) step();
        if (word == UINT64_MAX) continue;
        unsigned bit = (unsigned)__builtin_ctzll(~word), part = lu__zero_part_of(at);
        __atomic_fetch_or(bits, (uint64_t)1 << bit, __ATOMIC_RELAXED);
        __atomic_fetch_add(&lu__zero.live, 1, __ATOMIC_RELAXED);
        size_t number = (at - lu__zero_before(part)) * 64 + bit;
        return (void *)(lu__zero.part[part].names + (number << NAME_SHIFT));
    }
    return NULL;
}

void *lu__zero_alloc(void) {
    if (lu__option(LU_OPT_GUARD_ZERO) == 0) return NULL;
    lu__lock_acquire(&zero_lock);
    if (lu__zero.parts == 0 && lu__zero.calls++ % ASK_AGAIN == 0) make();
    void *name = lu__zero.parts != 0 ? take() : NULL;
    lu__lock_release(&zero_lock);
    return name;
}

/* The word and the bit of the name that `pointer` is in. */
static enum lu__zero_place locate(const void *pointer, uint64_t **word, uint64_t *bit) {
    for (unsigned part = 0; part < LU_ZERO_PARTS; part++) {
        uintptr_t first = __atomic_load_n(&lu__zero.part[part].names, __ATOMIC_ACQUIRE);
        if (first == 0) break;
        size_t offset = (uintptr_t)pointer - first, number = offset >> NAME_SHIFT;
        if (offset >= names_bytes(part)) continue;
        if (offset % ((size_t)1 << NAME_SHIFT) != 0) return LU_ZERO_INTERIOR;
        *word = &lu__zero.part[part].bits[number / 64];
        *bit = (uint64_t)1 << number % 64;
        return (__atomic_load_n(*word, __ATOMIC_RELAXED) & *bit) != 0 ? LU_ZERO_LIVE : LU_ZERO_FREE;
    }
    return LU_ZERO_NOT;
}

enum lu__zero_place lu__zero_find(const void *pointer) {
    uint64_t *word, bit;
    return locate(pointer, &word, &bit);
}

bool lu__zero_free(const void *block) {
    uint64_t *word, bit;
    if (locate(block, &word, &bit) != LU_ZERO_LIVE) return false;
    if ((__atomic_fetch_and(word, ~bit, __ATOMIC_RELEASE) & bit) == 0) return false;
    __atomic_fetch_sub(&lu__zero.live, 1, __ATOMIC_RELAXED);
    return true;
}

void lu__zero_fork_child(void) {
    (void)lu__lock_fork_child(&zero_lock);
}

void lu__zero_unload(void) {
    for (unsigned part = 0; part < lu__zero.parts; part++) {
        lu__os_unmap(lu__zero.part[part].bits, bits_bytes(part));
        lu__os_unmap((void *)lu__zero.part[part].names, names_bytes(part));
    }
}
