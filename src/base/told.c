/*
 * told.c - which violations were reported already, and how often each has happened.
 *
 *     entries[256]    mark of a place and a kind | times        filled, never emptied
 *     crowd[kind]     times of all that found no entry
 *
 * A mark may be in PROBES entries, one behind the other from the one that its hash selects. The
 * first thread puts the mark into a free entry by compare-and-swap; counting is one addition. So
 * threads that come at the same time get different numbers, and exactly one of them reports the
 * first time, the tenth and so on. No change is ever half done: a signal handler, and the child of
 * a fork at any moment, can go on counting. The child keeps the counts of its parent, as both
 * mostly write to the same log.
 *
 * Two marks of 64 bits that are equal by chance would be counted as one.
 *
 * No lock.
 */
#include "base/told.h"

enum { ENTRIES = 256, PROBES = 16 };

struct entry {
    uint64_t mark;  /* 0: free. Relaxed atomic: once set, it stays */
    uint64_t times; /* relaxed atomic                              */
};
static struct entry entries[ENTRIES];
static uint64_t crowd[LU_TOLD_KINDS]; /* relaxed atomic */
static uint64_t total;                /* relaxed atomic */

/* The finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). */
static uint64_t mix(uint64_t word) {
    word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9u;
    word = (word ^ word >> 27) * 0x94d049bb133111ebu;
    return word ^ word >> 31;
}

/* True if the entry has the mark, possibly since this call. */
static bool claim(struct entry *entry, uint64_t mark) {
    uint64_t seen = __atomic_load_n(&entry->mark, __ATOMIC_RELAXED);
    if (seen == 0 && __atomic_compare_exchange_n(&entry->mark, &seen, mark, false, __ATOMIC_RELAXED,
                                                 __ATOMIC_RELAXED)) {
        return true;
    }
    return seen == mark;
}

uint64_t lu__told_count(unsigned kind, uint64_t mark) {
    uint64_t hash = mix(mix(mark) + kind + 1) | 1; /* never 0 */
    uint64_t *times = &crowd[kind];
    for (unsigned i = 0; i < PROBES; i++) {
        struct entry *entry = &entries[((hash >> 32) + i) % ENTRIES];
        if (!claim(entry, hash)) continue;
        times = &entry->times;
        break;
    }
    (void)__atomic_fetch_add(&total, 1, __ATOMIC_RELAXED);
    return __atomic_add_fetch(times, 1, __ATOMIC_RELAXED);
}

bool lu__told_is_due(uint64_t times) {
    while (times >= 10 && times % 10 == 0) times /= 10;
    return times == 1;
}

uint64_t lu__told_total(void) {
    return __atomic_load_n(&total, __ATOMIC_RELAXED);
}
