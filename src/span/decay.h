/*
 * decay.h - how much dirty free memory goes back to the system, and when: the policy alone. It
 * knows amounts and times, but not runs; span/purge.c carries it out.
 *
 *     amount |      high
 *            |     /\    /\/\                    Two rules, each by amount, so that it does not
 *            |  /\/  \/\/    \  /\               matter which runs merged, or whether one of
 *            | /      |       \/  \____          them is used a little now and then:
 *            |/       fall
 *            +-------------------------> time
 *
 * Age: memory that was free during the whole `delay` is not needed. Its amount is the lowest of the
 * last EPOCHS epochs, each an eighth of the delay, whatever happened above it.
 *
 * Flood: when the memory in use has fallen far below its recent top, only an eighth of the peak and
 * LU_DECAY_KEEP are kept until they are old, because a program that frees so much may then make no
 * more calls. The flood begins at half of that eighth, so that memory can go back in small steps.
 * The ordinary ups and downs of a program are no flood: a fall counts only as far as it is deeper
 * than what the program allocated again after the falls of the last EPOCHS epochs (`regain`). A
 * program that still allocates while its use falls may fall a sixteenth deeper; each free uses up
 * half of its size of that allowance, so a flood without allocations begins at its eighth all the
 * same. Memory that is allocated and freed again and again may stay as well: its amount is the
 * deepest fall of the free amount by allocation, less what the amount has since climbed above its
 * recent height.
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
#define LU_DECAY_STEP (256 * LU_KIB) /* least amount that goes back because of a flood         */

struct lu__decay_epoch {
    size_t low;    /* lowest amount                                           */
    size_t high;   /* highest amount                                          */
    size_t fall;   /* deepest fall of it by allocation from its height then   */
    size_t regain; /* most that was in use again after it had been freed      */
};

struct lu__decay {
    uint64_t epoch_ms;                            /* when the running epoch began; 0: none has */
    struct lu__decay_epoch running;               /* so far                                    */
    struct lu__decay_epoch past[LU_DECAY_EPOCHS]; /* the last whole ones                       */
    uint32_t at;                                  /* of past: the oldest                       */
    size_t amount, used;                          /* as noted last                             */
    size_t high, fall, regain;                    /* greatest of past and running              */
    size_t climb;       /* of the amount above its former height, and not fallen since         */
    size_t top, bottom; /* recent top of what is in use, and the lowest since                  */
    size_t churn; /* taken, less half of what was freed; at most a sixteenth of the peak     */
    size_t peak;  /* of what is in use; fades slowly                                     */
};

/* The three changes: memory in use became less and the free amount more; the other way round, where
 * the amount may also stay as before; that much of the amount was given back. */
void lu__decay_freed(struct lu__decay *decay, size_t amount, size_t used, uint64_t now_ms,
                     long delay_ms);
void lu__decay_taken(struct lu__decay *decay, size_t amount, size_t used);
void lu__decay_purged(struct lu__decay *decay, size_t bytes);
/* How much is to go back because of a flood, in small steps. With a delay of 0 nothing is kept,
 * with a negative one everything. */
size_t lu__decay_excess(const struct lu__decay *decay, long delay_ms);
/* True if it is so much that small steps have not been enough. */
bool lu__decay_is_late(const struct lu__decay *decay, long delay_ms, size_t excess);
/* How much is to go back for its age; above `soon_above`, an eighth of the delay is enough.
 * `pressed`: only the memory that is allocated and freed again and again may stay. */
size_t lu__decay_due(struct lu__decay *decay, uint64_t now_ms, long delay_ms, size_t soon_above,
                     bool pressed);

#endif
