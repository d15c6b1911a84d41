/*
 * decay.c - the arithmetic of decay.h. No clock is read and nothing is called from here.
 *
 * An epoch ends at the first look at the clock after its time, which may be many epochs later. What
 * was noted since then counts for the first of these epochs, the last amount for the others,
 * because every change is noted.
 *
 * Invariants: running.low <= amount <= high; bottom <= used <= top; high, fall and regain are the
 * greatest of all epochs kept.
 */
#include "span/decay.h"

#define CHURN_PART 16u /* of the peak */

static size_t minus(size_t a, size_t b) {
    return a > b ? a - b : 0;
}

static uint64_t epoch_length(long delay_ms) {
    uint64_t length = (uint64_t)LU_MAX(delay_ms, 0) / LU_DECAY_EPOCHS;
    return LU_MAX(length, 1);
}

/* The greatest of what is kept. */
static void sum_up(struct lu__decay *decay) {
    decay->high = decay->running.high;
    decay->fall = decay->regain = 0;
    for (unsigned i = 0; i < LU_DECAY_EPOCHS; i++) {
        decay->high = LU_MAX(decay->high, decay->past[i].high);
        decay->fall = LU_MAX(decay->fall, decay->past[i].fall);
        decay->regain = LU_MAX(decay->regain, decay->past[i].regain);
    }
}

/* End the epochs that are over. */
static void advance(struct lu__decay *decay, uint64_t now_ms, long delay_ms) {
    uint64_t length = epoch_length(delay_ms);
    if (decay->epoch_ms == 0) decay->epoch_ms = now_ms;
    /* Each thread reads the clock before it takes the lock: so the time may go back. */
    if (now_ms < decay->epoch_ms + length) return;
    uint64_t over = (now_ms - decay->epoch_ms) / length;
    const struct lu__decay_epoch still = {decay->amount, decay->amount, 0, 0};
    for (uint64_t i = over - LU_MIN(over, LU_DECAY_EPOCHS); i < over; i++) {
        decay->past[decay->at] = i == 0 ? decay->running : still;
        decay->at = (decay->at + 1) % LU_DECAY_EPOCHS;
        decay->top -= (decay->top - decay->used) / LU_DECAY_EPOCHS;
        decay->peak -= (decay->peak - decay->used) / 64;
    }
    decay->epoch_ms += over * length;
    decay->running = still;
    sum_up(decay);
    decay->climb = LU_MIN(decay->climb, decay->high);
}

/* This runs for every run that is allocated or freed, and most are neither a new minimum nor a new
 * maximum: so it branches instead of storing a value that was selected. */

void lu__decay_freed(struct lu__decay *decay, size_t amount, size_t used, uint64_t now_ms,
                     long delay_ms) {
    advance(decay, now_ms, delay_ms);
    decay->amount = amount;
    if (decay->churn != 0) decay->churn = minus(decay->churn, (decay->used - used) / 2);
    decay->used = used;
    if (LU_UNLIKELY(used > decay->top)) decay->top = used;
    if (used < decay->bottom) decay->bottom = used;
    if (LU_UNLIKELY(used > decay->peak)) decay->peak = used;
    if (amount <= decay->running.high) return;
    decay->running.high = amount;
    if (amount <= decay->high) return;
    decay->climb += amount - decay->high;
    decay->high = amount;
}

static void note_regain(struct lu__decay *decay, size_t regain) {
    decay->running.regain = regain;
    if (regain > decay->regain) decay->regain = regain;
}

static void note_fall(struct lu__decay *decay, size_t fall) {
    decay->running.fall = fall;
    if (fall > decay->fall) decay->fall = fall;
}

static void note_churn(struct lu__decay *decay, size_t bytes) {
    decay->churn = LU_MIN(decay->churn + bytes, decay->peak / CHURN_PART);
}

void lu__decay_taken(struct lu__decay *decay, size_t amount, size_t used) {
    size_t reached = LU_MIN(used, decay->top), fallen = decay->amount - amount;
    if (reached > decay->bottom + decay->running.regain)
        note_regain(decay, reached - decay->bottom);
    if (decay->churn < decay->peak / CHURN_PART) note_churn(decay, used - decay->used);
    decay->used = used;
    if (LU_UNLIKELY(used >= decay->top)) {
        decay->top = decay->bottom = used;
        if (used > decay->peak) decay->peak = used;
    }
    if (amount >= decay->amount) return;
    if (decay->climb != 0) decay->climb = minus(decay->climb, fallen);
    decay->amount = amount;
    if (amount < decay->running.low) decay->running.low = amount;
    if (decay->high > amount + decay->running.fall) note_fall(decay, decay->high - amount);
}

static void epoch_purged(struct lu__decay_epoch *epoch, size_t bytes) {
    epoch->low = minus(epoch->low, bytes);
    epoch->high = minus(epoch->high, bytes);
}

void lu__decay_purged(struct lu__decay *decay, size_t bytes) {
    for (unsigned i = 0; i < LU_DECAY_EPOCHS; i++) epoch_purged(&decay->past[i], bytes);
    epoch_purged(&decay->running, bytes);
    decay->amount = minus(decay->amount, bytes);
    decay->running.high = LU_MAX(decay->running.high, decay->amount);
    decay->high = LU_MAX(minus(decay->high, bytes), decay->amount);
}

/* What the program frees and allocates again and again. */
static size_t reuse(const struct lu__decay *decay) {
    return minus(decay->fall, decay->climb);
}

size_t lu__decay_excess(const struct lu__decay *decay, long delay_ms) {
    if (delay_ms <= 0) return delay_ms == 0 ? decay->amount : 0;
    size_t eighth = decay->peak / 8, keep = LU_DECAY_KEEP - LU_DECAY_STEP + eighth / 2;
    if (minus(decay->top - decay->used, decay->regain) <= eighth + decay->churn) return 0;
    size_t excess = minus(decay->amount, keep + reuse(decay));
    return excess >= LU_DECAY_STEP ? excess : 0;
}

bool lu__decay_is_late(const struct lu__decay *decay, long delay_ms, size_t excess) {
    /* Together with what is kept that makes an eighth and LU_DECAY_KEEP; descriptors are resident,
     * too. */
    return delay_ms == 0 || excess > minus(decay->peak / 16, 2 * LU_MIB);
}

/* The lowest amount of the last whole epochs, and of the running one. */
static size_t lowest(const struct lu__decay *decay, unsigned epochs) {
    size_t low = decay->running.low;
    for (unsigned i = 1; i <= epochs; i++) {
        low = LU_MIN(low, decay->past[(decay->at + LU_DECAY_EPOCHS - i) % LU_DECAY_EPOCHS].low);
    }
    return low;
}

size_t lu__decay_due(struct lu__decay *decay, uint64_t now_ms, long delay_ms, size_t soon_above,
                     bool pressed) {
    advance(decay, now_ms, delay_ms);
    if (delay_ms < 0 && !pressed) return 0;
    if (delay_ms == 0) return decay->amount;
    size_t soon = minus(minus(lowest(decay, 1), soon_above), reuse(decay));
    size_t due = LU_MAX(lowest(decay, LU_DECAY_EPOCHS), soon);
    return pressed ? LU_MAX(due, minus(decay->amount, reuse(decay))) : due;
}
