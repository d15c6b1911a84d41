/*
 * room.c - where the addresses of the process are limited (RLIMIT_AS, RLIMIT_DATA).
 *
 *     limit    | regions, huge blocks | others: program, libraries, stacks | left |
 *
 * A limit is looked at when it is met, that is when the system has refused memory: most programs
 * have none, the look is two calls, and sandboxes may kill a process that asks. How much of a limit
 * is used only /proc says, for which a descriptor is needed that other threads could see; but when
 * little was refused, little was left, and what is not ours then is others'. From then on small
 * steps are mapped in advance, and of what is left only a part lies free in regions: stacks and
 * libraries need room, too, and the C library does not ask us for it.
 *
 * The figures are guarded by lu__span_lock.
 */
#include "os/os.h"
#include "span/run_parts.h"

#define ROOM_PART 8u /* of the addresses that are left, so much may lie free in regions */
#define LOOK_BYTES LU_MIB
#define HOPE 64u /* times what is mapped: who wants more is not helped by giving back */

static struct lu__span_figures *const figures = &lu__span_figures;
size_t lu__run_limit_met = SIZE_MAX;
static size_t others;   /* bytes that were theirs when it was met   */
static size_t unlooked; /* bytes freed since the limit was looked at */

/* The system has refused `bytes`, which are `charged` already or not: is that for a limit, and how
 * much is others'? Returns what is mapped by regions. */
static size_t note_limit(size_t bytes, size_t charged) {
    size_t limit = lu__os_address_space_limit();
    lu__lock_acquire(&lu__span_lock);
    size_t mapped = figures->mapped, seen = 0;
    size_t own = mapped + __atomic_load_n(&figures->huge, __ATOMIC_RELAXED) - charged;
    if (limit != SIZE_MAX && limit > own) seen = limit - own;
    seen = seen > bytes ? seen - bytes : 0;
    /* What a large request was refused for tells little. */
    others = bytes <= LU_MIB || lu__run_limit_met == SIZE_MAX ? seen : LU_MAX(seen, others);
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
