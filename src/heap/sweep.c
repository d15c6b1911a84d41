/*
 * sweep.c - giving memory back to the system after load has fallen, without anybody asking.
 *
 * Two kinds of memory go back. Runs that nobody uses are purged when they have been free for
 * purge_delay, or as a flood: that is decided in span/decay.c and done in span/purge.c. What is
 * free inside the runs that a heap has is found by passes over the heap (plain_sweep.c, and
 * harden/spans.c for hardened ones).
 *
 * Work is done in ticks: slow paths look at the clock now and then, and spend on sweeping at most a
 * share of the time that has passed since the last look. A program that calls malloc and free a
 * few times a second is enough. Everything is done by the heap's owner, or on a pooled heap that
 * was taken out of the pool for it; no lock is held.
 */
#include "base/options.h"
#include "heap/heap.h"
#include "heap/limit.h"
#include "heap/ops.h"
#include "heap/plain.h"
#include "os/os.h"

#define TICK_SLOW_PATHS 32u
#define TICK_EAGER 8u
#define CADENCE 256u     /* when there is nothing to give back */
#define SKIPPED 4u       /* and then the clock is not even read every time */
#define CADENCE_LEAST 1u /* else: adapted so that the clock is read every few milliseconds */
#define CADENCE_MOST 128u
/* Work is counted in steps of about 0.1 us. What is allowed grows with the time that passes. */
#define PACE_LEAST 250u /* for each millisecond */
#define PACE_MOST 4000u /* two fifths of the time */
#define DELAY_LEAST 64u /* ms; for the pace, purge_delay counts as no less */
#define PASSED_MOST 20u /* ms counted at a time */
#define WORK_MOST 2500u /* of a tick: no call takes half a millisecond for it */
#define WORK_SHARE 150u /* where several ticks share it, each does no less than this */
#define WORK_LEAST 100u /* less is not worth a call */
#define TICKS_BUSY 8u   /* at one time of the clock: many calls */
#define WORK_POOL 640u  /* for pooled heaps, every POOL_MS, by whatever thread */
#define POOL_MS 4u
#define WORK_BYTES LU_KIB /* of free runs purged */

uint32_t lu__purge_request;

/* How long what is idle inside spans is kept at most. */
static uint64_t delay_ms(void) {
    long delay = lu__option(LU_OPT_PURGE_DELAY);
    return delay < 0 ? UINT64_MAX / 2 : (uint64_t)delay;
}

static uint32_t pool_idle; /* pooled heaps visited one after the other that had nothing to do */

void lu__sweep_wake_pool(void) {
    if (__atomic_load_n(&pool_idle, __ATOMIC_RELAXED) != 0) {
        __atomic_store_n(&pool_idle, 0, __ATOMIC_RELAXED);
    }
}

/* False when all pooled heaps were seen to have nothing to do, twice, as they take turns. */
static bool pool_has_work(void) {
    size_t pooled = lu__pool_count();
    return pooled != 0 && __atomic_load_n(&pool_idle, __ATOMIC_RELAXED) <= 2 * pooled;
}

/* True while partial spans may have pages to give, or free runs wait to be purged. */
static bool is_eager(const struct heap *heap) {
    return heap->pass_changed || __atomic_load_n(&lu__span_figures.dirty, __ATOMIC_RELAXED) > 0 ||
           pool_has_work();
}

uint32_t lu__cadence(const struct heap *heap) {
    return is_eager(heap) ? heap->cadence : CADENCE;
}

bool lu__may_skip_tick(struct heap *heap) {
    return ++heap->skipped % SKIPPED != 0 && !is_eager(heap);
}

/* ---------------------------------------------------------------- ticks */

struct pooled_sweep {
    uint64_t now, delay;
    uint32_t work;
};

/* True while a pass is under way. */
static bool is_sweeping(const struct heap *heap) {
    return heap->sweep_class < LU_CLASSES || heap->sweep_at != NULL;
}

static void begin_pass(struct heap *heap, uint64_t now) {
    heap->pass_ms = now;
    heap->urgent = heap->urgent != LU_URGENT_NO ? LU_URGENT_NOW : LU_URGENT_NO;
    lu__heap_ops(heap)->sweep_begin(heap, heap->urgent);
}

/* The work that was done. */
static uint32_t sweep_paced(struct heap *heap, uint64_t now, uint64_t delay, uint32_t work) {
    bool idle = !is_sweeping(heap);
    if (heap->urgent == LU_URGENT_ASKED || (idle && now - heap->pass_ms >= delay / 4 + 1)) {
        begin_pass(heap, now);
    }
    if (!is_sweeping(heap)) return 0;
    uint32_t used = lu__heap_ops(heap)->sweep_some(heap, work);
    if (heap->urgent == LU_URGENT_NOW && !is_sweeping(heap)) heap->urgent = LU_URGENT_NO;
    return used;
}

/* Until the work is used up, by one heap or by many. */
static bool sweep_pooled(struct heap *heap, void *arg) {
    struct pooled_sweep *how = arg;
    bool works = heap->pass_changed != 0;
    if (lu__remote_take_in(heap)) works = true;
    how->work -= LU_MIN(sweep_paced(heap, how->now, how->delay, how->work), how->work);
    if (works || is_sweeping(heap)) {
        lu__sweep_wake_pool();
    } else {
        (void)__atomic_add_fetch(&pool_idle, 1, __ATOMIC_RELAXED);
    }
    return how->work != 0;
}

static uint32_t purging; /* some thread is in purge_runs: two would give back twice what is due */

void lu__sweep_fork_child(void) {
    __atomic_store_n(&purging, 0, __ATOMIC_RELAXED);
}

/* Purge free runs, which takes at most `work`; what it took. One thread at a time. */
static uint32_t purge_runs(uint64_t now, uint32_t work) {
    if (__atomic_load_n(&lu__span_figures.dirty, __ATOMIC_RELAXED) == 0) return 0;
    if (__atomic_exchange_n(&purging, 1, __ATOMIC_ACQUIRE) != 0) return 0;
    size_t bytes = lu__run_purge_due(now, lu__limit_is_near(), work * WORK_BYTES);
    __atomic_store_n(&purging, 0, __ATOMIC_RELEASE);
    return (uint32_t)LU_MIN(bytes / WORK_BYTES, work);
}

/* How much the running tick may do, or 0. A busy program has many ticks at one time of the clock,
 * and many more calls: few of them work, and much. In another every call is one of few, and what is
 * allowed is shared by the ticks. */
static uint32_t share_of(const struct heap *heap) {
    if (heap->ticks_before >= TICKS_BUSY) return heap->allowed >= WORK_MOST ? WORK_MOST : 0;
    uint32_t share = LU_MAX(heap->allowed / LU_MAX(heap->ticks_before, 1u), WORK_SHARE);
    uint32_t work = LU_MIN(LU_MIN(share, heap->allowed), LU_MIN(2 * heap->pace, WORK_MOST));
    return work >= WORK_LEAST ? work : 0;
}

/* Work for each millisecond, so that a pass, and purging, end within twice the delay or
 * so; no more, as each unit delays a call. */
static uint32_t pace_of(const struct heap *heap, uint64_t delay) {
    uint64_t bytes = __atomic_load_n(&lu__span_figures.dirty, __ATOMIC_RELAXED), spans = 0;
    for (unsigned c = 0; heap->pass_changed && c < LU_CLASSES; c++) spans += heap->partial_count[c];
    uint64_t work = LU_MAX(spans * (LU_WORK_SPAN + 2 * LU_WORK_CALL), bytes / WORK_BYTES);
    uint64_t pace = work / (2 * LU_MAX(delay, (uint64_t)DELAY_LEAST));
    return (uint32_t)LU_MIN(LU_MAX(pace, PACE_LEAST), PACE_MOST);
}

/* Work for some of what is allowed; true if there is more to do. */
static bool work_some(struct heap *heap, uint64_t now, uint64_t delay) {
    uint32_t work = share_of(heap);
    if (work == 0) return heap->owing;
    (void)lu__remote_take_in(heap);
    uint32_t purged = purge_runs(now, work), left = work - purged, used = 0;
    if (left >= WORK_LEAST) used = sweep_paced(heap, now, delay, left);
    heap->allowed -= LU_MIN(purged + used, heap->allowed);
    return is_sweeping(heap) || purged >= work / 2 || lu__remote_waits(heap);
}

/* Beside the work: what is done once for every millisecond in which the heap ticks. */
static void tick_duties(struct heap *heap, uint64_t now, uint64_t delay) {
    static uint64_t pool_swept_ms;
    uint64_t swept = __atomic_load_n(&pool_swept_ms, __ATOMIC_RELAXED);
    uint32_t request = __atomic_load_n(&lu__purge_request, __ATOMIC_RELAXED);
    if (heap->purge_seen != request && heap->urgent == LU_URGENT_NO) { /* one after the other */
        heap->purge_seen = request;
        heap->urgent = LU_URGENT_ASKED;
    }
    if (heap->kind != LU_HEAP_OF_THREAD) return;
    lu__remote_flush(heap);
    if (now - swept >= POOL_MS && __atomic_compare_exchange_n(&pool_swept_ms, &swept, now, false,
                                                              __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        struct pooled_sweep how = {now, delay, WORK_POOL};
        lu__pool_some(sweep_pooled, &how);
    }
}

void lu__tick_slow(struct heap *heap) {
    uint64_t now = lu__os_now_ms(), delay = delay_ms(), passed = now - heap->ticked_ms;
    heap->tick_left = is_eager(heap) ? TICK_EAGER : TICK_SLOW_PATHS;
    heap->ticks++;
    if (passed != 0) {
        heap->ticks_before = heap->ticks;
        heap->ticks = 0;
        if (passed > 4) heap->cadence = LU_MAX(heap->cadence / 4, CADENCE_LEAST);
        heap->ticked_ms = now;
        heap->pace = pace_of(heap, delay);
        heap->allowed += (uint32_t)LU_MIN(passed, PASSED_MOST) * heap->pace;
        heap->allowed = LU_MIN(heap->allowed, PASSED_MOST * heap->pace);
        tick_duties(heap, now, delay);
        heap->owing = work_some(heap, now, delay);
    } else if (heap->owing) { /* the clock counts in larger steps than calls come */
        heap->owing = work_some(heap, now, delay);
    } else { /* busy: look less often */
        heap->cadence = LU_MIN(heap->cadence * 2, CADENCE_MOST);
    }
}
