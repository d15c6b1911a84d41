/*
 * decay.h - how much of the free memory that was used goes back to the system, and when: the policy
 * alone. It knows amounts and times, and no runs; span/purge.c carries it out.
 *
 *     amount |      high
 *            |     /\    /\/\                    Two rules, each by amount, so that it does not
 *            |  /\/  \/\/    \  /\               matter which runs merged, or whether one of
 *            | /      |       \/  \____          them is used a little now and then:
 *            |/       fall
 *            +-------------------------> time
 *
 * Age: what was free all the time for `delay` is not needed. That is the lowest amount of the last
 * EPOCHS epochs, each an eighth of the delay, whatever happened above it.
 *
 * Flood: when what is in use has fallen far below its recent top, more than an eighth of the peak
 * and LU_DECAY_KEEP is not kept for its age alone, as a program that frees so much may fall silent
 * and never call again. It begins at half of that eighth, so that it can go back in small steps.
 * The ordinary ups and downs of a program are no flood: a fall counts from where it is deeper than
 * what the program took back after falls of the last EPOCHS epochs (`regain`). Who still allocates
 * while it falls may fall a sixteenth deeper; as frees alone use that up by half of what they free,
 * a flood without allocations begins at its eighth all the same. And what is taken out of the free
 * memory again and again may stay as well: the deepest fall of the amount by use, less what the
 * amount has since climbed above its recent height.
 *
 * Amounts are bytes, times milliseconds that never wrap. The caller holds lu__span_lock, or owns
 * the structure alone. The age rule is the low-water mark of tcmalloc's caches; jemalloc (decay.c)
 * lets pages go along a curve instead, by their own ages.
 */
#ifndef LU_DECAY_H
#define LU_DECAY_H

#include "base/base.h"

#define LU_DECAY_EPOCHS 8u
#define LU_DECAY_KEEP (8 * LU_MIB)
#define LU_DECAY_STEP (256 * LU_KIB) /* a flood goes back when there is so much of it at least */

struct lu__decay_epoch {
    size_t low;    /* lowest amount                                           */
    size_t high;   /* highest amount                                          */
    size_t fall;   /* deepest fall of it by use from the height of that time  */
    size_t regain; /* most that was in use again after it had been freed      */
};

struct lu__decay {
    uint64_t epoch_ms;                            /* when the running epoch began; 0: none has */
    struct lu__decay_epoch running;               /* so far                                    */
    struct lu__decay_epoch past[LU_DECAY_EPOCHS]; /* the last whole ones                       */
    uint32_t at;                                  /* of past: the oldest                       */
    size_t amount, used;                          /* as noted last                             */
    size_t high, fall, regain;                    /* greatest of past and running              */
    size_t climb;       /* of the amount above what was its height, and not fallen since       */
    size_t top, bottom; /* recent top of what is in use, and the lowest since                  */
    size_t churn; /* taken, less half of what was freed; at most a sixteenth of the peak     */
    size_t peak;  /* of what is in use; fades slowly                                     */
};

/* What is in use has become less and the amount more; or the other way round, where the amount may
 * also be as before; or that much of it was given back. */
void lu__decay_freed(struct lu__decay *decay, size_t amount, size_t used, uint64_t now_ms,
                     long delay_ms);
void lu__decay_taken(struct lu__decay *decay, size_t amount, size_t used);
void lu__decay_purged(struct lu__decay *decay, size_t bytes);
/* What is to go back because of a flood, in small steps. A delay of 0 keeps nothing, a negative one
 * all. */
size_t lu__decay_excess(const struct lu__decay *decay, long delay_ms);
/* It is so much that small steps have not been enough. */
bool lu__decay_is_late(const struct lu__decay *decay, long delay_ms, size_t excess);
/* What is to go back for its age; of what is more than `soon_above` an eighth of it is enough.
 * `pressed`: of what is free only what is used again and again may stay. */
size_t lu__decay_due(struct lu__decay *decay, uint64_t now_ms, long delay_ms, size_t soon_above,
                     bool pressed);

#endif
