/*
 * timed.h - malloc, calloc, realloc and free, each call timed by itself.
 *
 * Every thread has a record per kind of call: a histogram of the quick ones, and of those that took
 * WATCH_LOOK or more two, one by wall time and one by what is charged to the allocator: all of it
 * if the call waited, else the thread's own time (watch.h). So there are percentiles of
 * both, with the scheduler and without. The time between two calls is a kind as well; what is long
 * there is no allocator's fault, and tells what the machine does by itself.
 *
 * Nothing here allocates, and a quick call costs two reads of the clock and an increment. The time
 * between those reads alone is subtracted.
 */
#ifndef BENCH_TIMED_H
#define BENCH_TIMED_H

#include "histogram.h"
#include "watch.h"

enum timed_call {
    TIMED_MALLOC,
    TIMED_CALLOC,
    TIMED_REALLOC,
    TIMED_FREE,
    TIMED_BETWEEN,
    TIMED_CALLS
};

struct timed_record {
    struct histogram quick, wall, charged; /* the first in ticks, the others in nanoseconds */
    uint64_t causes[WATCH_CAUSES];         /* of calls of WATCH_LONG or more                */
    uint64_t longest;                      /* wall time, nanoseconds                        */
    uint64_t worst_charged, worst_size;    /* of the call that most is charged of           */
    struct watch_verdict worst;
};

struct timed {
    struct timed_record records[TIMED_CALLS];
    struct watch_clock clock;
    uint64_t look;  /* WATCH_LOOK in ticks                               */
    uint64_t ended; /* the last call; 0: the time since then is no work  */
    struct watch watch;
    bool list; /* long calls that are charged, on stderr */
};

/* In zeroed memory, by the thread itself. */
void timed_init(struct timed *timed, const struct watch_clock *clock, bool list);
/* After the thread has slept, or worked for long. */
void timed_window(struct timed *timed);
void timed_note_long(struct timed *timed, enum timed_call call, uint64_t size, uint64_t ticks);
/* Add what another thread found. */
void timed_merge(struct timed_record *into, const struct timed_record *from);
/* Add a point for each kind of call to the report. Returns the number of calls. */
uint64_t timed_report(struct bench *bench, const struct timed_record *records,
                      const struct watch_clock *clock);

static inline void timed_note(struct timed *timed, enum timed_call call, uint64_t size,
                              uint64_t began, uint64_t ended) {
    uint64_t ticks = ended - began;
    ticks = (int64_t)ticks > (int64_t)timed->clock.overhead ? ticks - timed->clock.overhead : 0;
    if (__builtin_expect(ticks < timed->look, 1)) {
        histogram_add(&timed->records[call].quick, ticks);
    } else {
        timed_note_long(timed, call, size, ticks);
    }
}

static inline uint64_t timed_begin(struct timed *timed) {
    uint64_t now = watch_ticks();
    if (timed->ended == 0) return now;
    timed_note(timed, TIMED_BETWEEN, 0, timed->ended, now);
    return watch_ticks();
}

static inline void timed_end(struct timed *timed, enum timed_call call, uint64_t size,
                             uint64_t began) {
    uint64_t ended = watch_ticks();
    timed_note(timed, call, size, began, ended);
    timed->ended = watch_ticks();
}

static inline void *timed_malloc(struct timed *timed, size_t size) {
    uint64_t began = timed_begin(timed);
    void *block = malloc(size);
    timed_end(timed, TIMED_MALLOC, size, began);
    return block;
}

static inline void *timed_calloc(struct timed *timed, size_t size) {
    uint64_t began = timed_begin(timed);
    void *block = calloc(1, size);
    timed_end(timed, TIMED_CALLOC, size, began);
    return block;
}

static inline void *timed_realloc(struct timed *timed, void *old, size_t size) {
    uint64_t began = timed_begin(timed);
    void *block = realloc(old, size);
    timed_end(timed, TIMED_REALLOC, size, began);
    return block;
}

/* `size` is that of the block. */
static inline void timed_free(struct timed *timed, void *block, size_t size) {
    uint64_t began = timed_begin(timed);
    free(block);
    timed_end(timed, TIMED_FREE, size, began);
}

#endif
