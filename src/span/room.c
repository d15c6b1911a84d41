/*
 * room.c - limits on the addresses of the process (RLIMIT_AS, RLIMIT_DATA).
 *
 *     limit    | regions, huge blocks | others: program, libraries, stacks | left |
 *
 * lucid reads a limit when it meets it, that is when the system has refused memory: most programs
 * have no limit, reading it takes two system calls, and sandboxes may kill a process that asks.
 * Only /proc says how much of a limit is used, and reading that needs a descriptor that other
 * threads could see. But when a small request is refused, little is left, so everything that is not
 * lucid's belongs to others. From then on lucid maps only small steps in advance, and only a part
 * of the remaining addresses lies free in regions: stacks and libraries need room, too, and the C
 * library does not ask lucid for it.
 *
 * The figures are guarded by lu__span_lock.
 */
#include "os/os.h"
#include "span/run_parts.h"

#define ROOM_PART 8u /* of the addresses that are left, so much may lie free in regions */
#define LOOK_BYTES LU_MIB
#define HOPE 64u /* times what is mapped: giving back does not help larger requests   */

static struct lu__span_figures *const figures = &lu__span_figures;
size_t lu__run_limit_met = SIZE_MAX;
static size_t others;   /* bytes that were theirs when it was met   */
static size_t unlooked; /* bytes freed since the limit was looked at */

/* The system has refused `bytes`, which are `charged` already or not: find out whether a limit is
 * the reason, and how much of it others use. Returns how much regions have mapped. */
static size_t note_limit(size_t bytes, size_t charged) {
    size_t limit = lu__os_address_space_limit();
    lu__lock_acquire(&lu__span_lock);
    size_t mapped = figures->mapped, theirs = 0;
    size_t own = mapped + __atomic_load_n(&figures->huge, __ATOMIC_RELAXED) - charged;
    if (limit != SIZE_MAX && limit > own) theirs = limit - own;
    theirs = theirs > bytes ? theirs - bytes : 0;
    /* The refusal of a large request says little. */
    others = bytes <= LU_MIB || lu__run_limit_met == SIZE_MAX ? theirs : LU_MAX(theirs, others);
    lu__run_limit_met = limit;
    lu__lock_release(&lu__span_lock);
    return mapped;
}

size_t lu__run_room(void) {
    if (LU_LIKELY(lu__run_limit_met == SIZE_MAX)) return SIZE_MAX;
    size_t used = figures->mapped + __atomic_load_n(&figures->huge, __ATOMIC_RELAXED) + others;
    return lu__run_limit_met > used ? lu__run_limit_met - used : 0;
}

bool lu__run_refused(size_t bytes, size_t charged) {
    if (bytes / HOPE > note_limit(bytes, charged)) return false;
    bool purged = lu__run_purge(SIZE_MAX) != 0;
    return lu__run_give_addresses(0) || purged;
}

bool lu__run_room_due(size_t freed) {
    unlooked += freed;
    if (unlooked < LOOK_BYTES) return false;
    unlooked = 0;
    return true;
}

void lu__run_make_room(void) {
    size_t limit = lu__os_address_space_limit();
    lu__lock_acquire(&lu__span_lock);
    lu__run_limit_met = limit; /* it may have changed */
    size_t keep = lu__run_room() / ROOM_PART, dirty = figures->dirty;
    lu__lock_release(&lu__span_lock);
    if (dirty > keep) (void)lu__run_purge(dirty - keep);
    lu__lock_acquire(&lu__span_lock);
    (void)lu__region_trim(keep);
    lu__lock_release(&lu__span_lock);
}
