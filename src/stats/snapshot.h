/* snapshot.h - the figures of lu_stats_t, read from the descriptors, and their reports. */
#ifndef LU_SNAPSHOT_H
#define LU_SNAPSHOT_H

#include "base/base.h"
#include "lucid/lucid.h"

struct heap;

/* Print or write the statistics that LUCID_OPTIONS=stats asks for; at exit. */
void lu__stats_at_exit(void);

/* ---------------------------------------------------------------- held_parts.c */

/* The names of lu_held_t's members, in its order. */
#define LU_HELD_PARTS 12u
extern const char *const lu__held_names[LU_HELD_PARTS] LU_HIDDEN;
/* Part number `i`, in bytes. */
size_t lu__held_part(const lu_held_t *held, unsigned i);

/* The part for what is free in a SMALL span of the heap. now_ms: the time of the snapshot. */
size_t *lu__held_free_part(lu_held_t *held, const struct heap *owner, uint64_t now_ms);
/* Make the parts add up to out->held_bytes, which was read at another instant than they: what they
 * lack is in transit; what they have too much, the free parts lose, and if that is not enough, held
 * was more. */
void lu__held_balance(lu_stats_t *out);

/* True if a snapshot could look at memory, and there was some. */
bool lu__stats_has_memory(const lu_stats_t *stats);
/* What a report for people says in place of figures if not. */
#define LU_STATS_NONE "no figures: nothing was allocated yet, or the call came from inside malloc"

#endif
