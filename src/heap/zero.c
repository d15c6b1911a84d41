/*
 * zero.c - malloc(0): a pointer that is unique, can be freed, and points at nothing.
 *
 * C leaves open what a block of no bytes is. Whoever reads or writes one has made a mistake, so it
 * lies where every access faults (as in OpenBSD's malloc):
 *
 *     names   | 16 | 16 | 16 | ...      1 GiB of address space without access
 *     bits    1 bit for each: live      8 MiB, touched as far as it is used
 *
 * Names are given in order, round and round, so that one that was freed is not soon given again.
 * Where the address space cannot be had, malloc(0) gives a block of the smallest class instead; so
 * does a call that finds no name among the LOOKS words where the search stands, as that is under a
 * lock. The next call goes on behind them.
 *
 * The lock guards the search; a bit is cleared without it.
 */
#include "heap/zero.h"

#include "base/options.h"
#include "os/lock.h"
#include "os/os.h"

#define NAME_SHIFT 4
#define BYTES ((size_t)LU_ZERO_WORDS * 64 << NAME_SHIFT)
#define LOOKS 4096u /* words in one call; 1 to 2 us */

static struct lu__lock zero_lock = LU_LOCK_INIT(LU_RANK_LEAF);
struct lu__zero lu__zero;

/* Locked. */
static bool make(void) {
    void *space, *memory;
    if (lu__zero.names != 0) return true;
    if (lu__zero.refused) return false;
    lu__zero.refused = true; /* not again and again */
    if (lu__os_map(LU_ZERO_WORDS * sizeof(uint64_t), LU_OS_PAGE, &memory) != 0) return false;
    if (lu__os_reserve(BYTES, LU_OS_PAGE, &space) != 0) {
        lu__os_unmap(memory, LU_ZERO_WORDS * sizeof(uint64_t));
        return false;
    }
    lu__zero.bits = memory;
    __atomic_store_n(&lu__zero.names, (uintptr_t)space, __ATOMIC_RELEASE);
    return true;
}

/* Locked. The number of a name that was free, or SIZE_MAX. */
static size_t take(void) {
    for (unsigned looked = 0; looked < LOOKS; looked++) {
        size_t at = lu__zero.next;
        uint64_t word = __atomic_load_n(&lu__zero.bits[at], __ATOMIC_ACQUIRE);
        if ((word | (word + 1)) == UINT64_MAX) lu__zero.next = (at + 1) % LU_ZERO_WORDS;
        if (word == UINT64_MAX) continue;
        unsigned bit = (unsigned)__builtin_ctzll(~word);
        __atomic_fetch_or(&lu__zero.bits[at], (uint64_t)1 << bit, __ATOMIC_RELAXED);
        return at * 64 + bit;
    }
    return SIZE_MAX;
}

void *lu__zero_alloc(void) {
    if (lu__option(LU_OPT_GUARD_ZERO) == 0) return NULL;
    lu__lock_acquire(&zero_lock);
    size_t number = make() ? take() : SIZE_MAX;
    lu__lock_release(&zero_lock);
    return number != SIZE_MAX ? (void *)(lu__zero.names + (number << NAME_SHIFT)) : NULL;
}

enum lu__zero_place lu__zero_find(const void *pointer) {
    uintptr_t first = __atomic_load_n(&lu__zero.names, __ATOMIC_ACQUIRE);
    size_t offset = (uintptr_t)pointer - first;
    if (first == 0 || offset >= BYTES) return LU_ZERO_NOT;
    if (offset % ((size_t)1 << NAME_SHIFT) != 0) return LU_ZERO_INTERIOR;
    size_t number = offset >> NAME_SHIFT;
    uint64_t word = __atomic_load_n(&lu__zero.bits[number / 64], __ATOMIC_RELAXED);
    return (word >> number % 64 & 1) != 0 ? LU_ZERO_LIVE : LU_ZERO_FREE;
}

bool lu__zero_free(const void *block) {
    size_t number = ((uintptr_t)block - lu__zero.names) >> NAME_SHIFT;
    uint64_t bit = (uint64_t)1 << number % 64;
    return (__atomic_fetch_and(&lu__zero.bits[number / 64], ~bit, __ATOMIC_RELEASE) & bit) != 0;
}

void lu__zero_fork_child(void) {
    (void)lu__lock_fork_child(&zero_lock);
}
