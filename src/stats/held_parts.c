/*
 * held_parts.c - what held memory is used for: lu_held_t.
 *
 *     held_bytes = live blocks + what surrounds them + free memory, by who would have to use it or
 *                  give it back + free runs + what is in transit
 *
 * Who asks why a process holds more than is live is told which threads keep the rest. A thread that
 * does not call gives nothing back, so free memory of threads that are silent is told apart.
 */
#include <string.h>

#include "heap/heap.h"
#include "stats/snapshot.h"

#define NO_TSAN __attribute__((no_sanitize("thread")))

#define ACTIVE_MS 1000u /* since its thread looked at the clock */

const char *const lu__held_names[LU_HELD_PARTS] = {
    "live_small", "live_large", "live_huge", "padding",    "free_active", "free_idle",
    "free_ended", "free_user",  "waiting",   "quarantine", "free_runs",   "transit",
};
_Static_assert(sizeof(lu_held_t) == LU_HELD_PARTS * sizeof(size_t), "every part is in the table");

size_t lu__held_part(const lu_held_t *held, unsigned i) {
    size_t value; /* the table has the order of the structure */
    memcpy(&value, (const char *)held + i * sizeof value, sizeof value);
    return value;
}

NO_TSAN size_t *lu__held_free_part(lu_held_t *held, const struct heap *owner, uint64_t now_ms) {
    if (owner->kind == LU_HEAP_OF_USER) return &held->free_user;
    if (owner->state != LU_HEAP_ACTIVE) return &held->free_ended;
    bool active = owner == lu__thread_heap() || now_ms - owner->ticked_ms < ACTIVE_MS;
    return active ? &held->free_active : &held->free_idle;
}

static size_t sum_of(const lu_held_t *held) {
    size_t sum = 0;
    for (unsigned i = 0; i < LU_HELD_PARTS; i++) sum += lu__held_part(held, i);
    return sum;
}

static size_t take_from(size_t *part, size_t excess) {
    size_t taken = LU_MIN(*part, excess);
    *part -= taken;
    return excess - taken;
}

void lu__held_balance(lu_stats_t *out) {
    lu_held_t *held = &out->held;
    held->transit = 0;
    size_t sum = sum_of(held);
    if (sum <= out->held_bytes) {
        held->transit = out->held_bytes - sum;
        return;
    }
    size_t *free_parts[] = {&held->free_active, &held->waiting,    &held->free_idle,
                            &held->free_user,   &held->free_ended, &held->quarantine,
                            &held->padding};
    size_t excess = sum - out->held_bytes;
    for (unsigned i = 0; i < sizeof free_parts / sizeof *free_parts; i++) {
        excess = take_from(free_parts[i], excess);
    }
    out->held_bytes += excess;
    out->peak_held_bytes = LU_MAX(out->held_bytes, out->peak_held_bytes);
}

bool lu__stats_has_memory(const lu_stats_t *stats) {
    return stats->committed_bytes != 0;
}
