/*
 * sweep.c - giving memory back to the system after load has fallen, without anybody asking.
 *
 * Two kinds of memory go back. Runs that nobody uses are purged when they have been free for
 * purge_delay, or as a flood: that is decided in span/decay.c and done in span/purge.c. Whole
 * free pages of the kernel inside partly used spans are the sweep's: it visits a heap's partial
 * spans one after the other, and what has not changed between two visits is idle, so its free pages
 * go back. With pages of 64 KiB, as large as a slice, there are none.
 *
 *     page      0        1        2        3
 *     block  |used|free|free|free|free|used|free|...       page 1 is free throughout: it is
 *                      ^^^^^^^^^^                           purged, bit 1 of span->purged is set
 *                                                           (of larger pages the bits of all
 *                                                           units), and the blocks that touch it
 *                                                           are off the list until a refill wants
 *                                                           them
 *
 * Work is done in ticks: slow paths look at the clock now and then, and spend on sweeping at most a
 * share of the time that has passed since the last look. A program that calls malloc and free a
 * few times a second is enough. Everything is done by the heap's owner, or on a pooled heap that
 * was taken out of the pool for it; no lock is held.
 */
#include "base/options.h"
#include "heap/harden.h"
#include "heap/heap.h"
#include "heap/limit.h"
#include "heap/track.h"
#include "os/os.h"

#define TICK_SLOW_PATHS 32u
#define TICK_EAGER 8u
#define CADENCE 256u     /* when there is nothing to give back */
#define SKIPPED 4u       /* and then the clock is not even read every time */
#define CADENCE_LEAST 1u /* else: adapted so that the clock is read every few milliseconds */
#define CADENCE_MOST 128u
/* Work is counted in units of about 0.1 us. What is allowed grows with the time that passes. */
#define PACE_LEAST 250u  /* for each millisecond */
#define PACE_MOST 4000u  /* two fifths of the time */
#define DELAY_LEAST 64u  /* ms; for the pace, purge_delay counts as no less */
#define PASSED_MOST 20u  /* ms counted at a time */
#define UNITS_MOST 2500u /* of a tick: no call takes half a millisecond for it */
#define UNITS_SHARE 150u /* where several ticks share it, each does no less than this */
#define UNITS_LEAST 100u /* less is not worth a call */
#define TICKS_BUSY 8u    /* at one time of the clock: many calls */
#define UNITS_POOL 640u  /* for pooled heaps, every POOL_MS, by whatever thread */
#define POOL_MS 4u
#define UNIT_BYTES LU_KIB /* of free runs purged */
#define IDLE_STEPS 512u   /* blocks looked at to see that a current span is idle; a unit each */
#define UNIT_BLOCKS 8u    /* of a list that is followed */
#define UNITS_SPAN 60u    /* what it costs to see which pages of a span are free */
#define UNITS_CALL 30u    /* and a call of the kernel for some of them */
#define CALLS_LEAST 2u    /* of the kernel, at a visit to a span */
#define RANGES 64
#define SLICE_UNITS (LU_SLICE >> LU_UNIT_SHIFT)

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
    return heap->restless || __atomic_load_n(&lu__span_figures.dirty, __ATOMIC_RELAXED) > 0 ||
           pool_has_work();
}

uint32_t lu__cadence(const struct heap *heap) {
    return is_eager(heap) ? heap->cadence : CADENCE;
}

bool lu__may_skip_tick(struct heap *heap) {
    return ++heap->skipped % SKIPPED != 0 && !is_eager(heap);
}

/* ---------------------------------------------------------------- pages of one span */

struct page_purge {
    struct lu__os_range ranges[RANGES];
    struct span *spans[RANGES]; /* whose memory it is, if nobody uses it before a refill; or NULL */
    size_t count;
    uint32_t calls; /* so far, of the kernel */
    size_t bytes;   /* returned so far */
};

static void note_absent(struct span *span, const void *at, size_t bytes) {
    uint32_t from = (uint32_t)((const char *)at - lu__span_start(span));
    lu__span_leave(span, from, from + (uint32_t)bytes);
}

static void flush_ranges(struct page_purge *purge) {
    size_t done = lu__os_purge_many(purge->ranges, purge->count);
    for (size_t i = 0; i < done; i++) {
        size_t bytes = purge->ranges[i].size;
        purge->bytes += bytes;
        if (purge->spans[i] != NULL) note_absent(purge->spans[i], purge->ranges[i].at, bytes);
    }
    purge->calls += (uint32_t)purge->count;
    purge->count = 0;
}

/* Calls of the kernel, also those to come. */
static uint32_t calls_of(const struct page_purge *purge) {
    return purge->calls + (uint32_t)purge->count;
}

/* Flush, and count what was returned. */
static void finish(struct page_purge *purge) {
    flush_ranges(purge);
    __atomic_fetch_add(&lu__span_figures.returned, purge->bytes, __ATOMIC_RELAXED);
}

static void add_range(struct page_purge *purge, struct span *span, uintptr_t at, size_t size) {
    purge->spans[purge->count] = span;
    purge->ranges[purge->count++] = (struct lu__os_range){(void *)at, size};
    if (purge->count == RANGES) flush_ranges(purge);
}

/* Of each unit, so many bytes more are free: those in [at, end). */
LU_INLINE void add_free(uint32_t *free_bytes, uint32_t at, uint32_t end) {
    while (at < end) {
        uint32_t unit_end = LU_MIN((at | (LU_UNIT - 1)) + 1, end);
        free_bytes[at >> LU_UNIT_SHIFT] += unit_end - at;
        at = unit_end;
    }
}

/* Blocks that reach from a purged unit into one that is there are free, and on no list. */
static void add_cut_blocks(const struct span *span, uint32_t *free_bytes) {
    uint32_t size = lu__class_size[span->class_id], done = 0; /* end of the last one added */
    for (uint32_t unit = 1; unit < SLICE_UNITS; unit++) {
        uint32_t border = unit << LU_UNIT_SHIFT, at = border / size * size;
        bool cut = (span->purged >> unit & 1) != (span->purged >> (unit - 1) & 1);
        if (!cut || at == border || at < done || at + size > span->limit) continue;
        add_free(free_bytes, at, done = at + size);
    }
}

/* Bits of the units that free blocks and uncarved memory cover wholly. */
static uint32_t free_units(const struct span *span, uintptr_t start) {
    uint32_t free_bytes[SLICE_UNITS] = {0};
    uint32_t size = lu__class_size[span->class_id];
    for (uintptr_t b = span->head; b != LU_LIST_END; b = lu__list_step(span->key, b)) {
        add_free(free_bytes, (uint32_t)(b - start), (uint32_t)(b - start) + size);
    }
    add_free(free_bytes, span->limit, LU_SLICE);
    if (span->purged != 0) add_cut_blocks(span, free_bytes);
    uint32_t units = 0;
    for (uint32_t unit = 0; unit < SLICE_UNITS; unit++) {
        if (free_bytes[unit] == LU_UNIT) units |= 1u << unit;
    }
    return units;
}

/* Of the bits of units those that make up whole pages of the kernel. */
static uint32_t whole_pages(uint32_t units) {
    uint32_t per_page = (uint32_t)(LU_OS_PAGE >> LU_UNIT_SHIFT), page = (1u << per_page) - 1;
    for (uint32_t width = 1; width < per_page; width *= 2) units &= units >> width;
    return (units & UINT32_MAX / page) * page; /* bit i stood for i to i + per_page - 1 */
}

/* Take the blocks that touch the units `pages` off the list, keeping the order of the others. */
static void unlist(struct span *span, uintptr_t start, uint32_t pages) {
    uint32_t size = lu__class_size[span->class_id];
    uintptr_t kept = LU_LIST_END, last = 0;
    for (uintptr_t b = span->head, next; b != LU_LIST_END; b = next) {
        next = lu__list_step(span->key, b);
        if (lu__block_pages((uint32_t)(b - start), size) & pages) {
            span->off++;
            continue;
        }
        if (last == 0) {
            kept = b;
        } else {
            *(uintptr_t *)last = (b ^ last) ^ span->key;
        }
        last = b;
    }
    if (last != 0) *(uintptr_t *)last = (LU_LIST_END ^ last) ^ span->key;
    span->head = kept;
}

/* Give back the pages inside the free blocks of a span of several slices, whose blocks are large:
 * each keeps the page of its link and stays on the list. At most `calls` blocks, after the first
 * span->seen; true if that were all. */
static bool purge_insides(struct span *span, struct page_purge *purge, uint32_t calls) {
    uint32_t size = lu__class_size[span->class_id], at = 0;
    for (uintptr_t b = span->head; b != LU_LIST_END; b = lu__list_step(span->key, b), at++) {
        if (at < span->seen) continue;
        uintptr_t first = lu__align_up(b + sizeof b, LU_OS_PAGE);
        uintptr_t end = lu__align_down(b + size, LU_OS_PAGE);
        if (end <= first) continue;
        if (calls-- == 0) {
            span->seen = (uint16_t)at;
            return false;
        }
        add_range(purge, NULL, first, end - first); /* malloc may take it at any time */
    }
    return true;
}

/* Bits of the first runs of ones, at most `runs`. */
static uint32_t first_runs(uint32_t bits, uint32_t runs) {
    uint32_t rest = bits;
    while (rest != 0 && runs-- > 0) {
        rest &= rest + (rest & -rest); /* a carry goes through the first run */
    }
    return bits & ~rest;
}

/* Give back the free pages of a span, in at most `calls` calls of the kernel; it is swept if that
 * were all. */
static void purge_span(struct span *span, struct page_purge *purge, uint32_t calls) {
    if (LU_UNLIKELY(span->track != 0)) lu__track_end(span);
    lu__run_forget_touched(span);
    span->swept = 1;
    if (span->slices > 1) {
        span->swept = purge_insides(span, purge, calls);
        return;
    }
    if (LU_OS_PAGE >= LU_SLICE) return; /* no page is free while a block is out */
    uintptr_t start = (uintptr_t)lu__span_start(span);
    /* Of a page that was taken back into use in part, the rest is as good as free. */
    uint32_t units = free_units(span, start) | span->purged;
    uint32_t all = whole_pages(units) & ~whole_pages(span->purged);
    uint32_t pages = first_runs(all, calls);
    if (pages == 0) return;
    span->swept = pages == all;
    unlist(span, start, pages);
    __atomic_store_n(&span->purged, (uint16_t)(span->purged | pages), __ATOMIC_RELAXED);
    __atomic_store_n(&span->bound, 0, __ATOMIC_RELAXED); /* frees look at `purged` first */
    while (pages != 0) {
        uint32_t first = (uint32_t)__builtin_ctz(pages);
        uint32_t length = (uint32_t)__builtin_ctz(~(pages >> first));
        add_range(purge, span, start + ((uintptr_t)first << LU_UNIT_SHIFT),
                  (size_t)length << LU_UNIT_SHIFT);
        pages &= ~(((1u << length) - 1) << first);
    }
}

/* ---------------------------------------------------------------- passes over a heap */

/* Give back what is not carved of a used slice, if nothing was since the last pass. */
static uint32_t purge_rest(struct span *span, struct page_purge *purge) {
    uint32_t limit = span->limit;
    uint32_t rest = (uint32_t)lu__align_up(limit, LU_OS_PAGE), end = (uint32_t)lu__span_bytes(span);
    bool still = span->seen == limit / 8;
    span->seen = (uint16_t)(limit / 8);
    if (!still || span->swept || span->zero || rest >= end) return 1;
    span->swept = 1;
    lu__run_forget_touched(span);
    add_range(purge, span, (uintptr_t)lu__span_start(span) + rest, end - rest);
    return UNITS_CALL;
}

/* Demote the current span of the class if nothing has happened to it since the last pass, or
 * nothing of it is out; the units of work that it took. */
static uint32_t visit_current(struct heap *heap, unsigned c, struct page_purge *purge) {
    struct span *span = heap->current[c];
    if (span == NULL) return 1;
    uint32_t mark = (uint32_t)heap->list[c] ^ span->needed ^ span->limit;
    uint32_t steps = IDLE_STEPS;
    if (heap->urgent || span->stamp == mark || lu__small_is_idle(heap, c, &steps)) {
        uint32_t most = lu__span_carved(span) - span->off;
        lu__small_demote(heap, c); /* counts the list */
        return 1 + IDLE_STEPS - steps + most / UNIT_BLOCKS;
    }
    span->stamp = mark;
    return purge_rest(span, purge) + IDLE_STEPS - steps;
}

/* How many blocks are on the list of a partial span. */
static uint32_t listed_of(const struct span *span) {
    return lu__span_carved(span) - span->off - span->needed;
}

/* Visit a partial span, for about `units` of work; those that it took. *done: no more need be done
 * with it in this pass. */
static uint32_t visit_partial(struct heap *heap, struct span *span, struct page_purge *purge,
                              uint32_t units, bool *done) {
    *done = true;
    uint32_t mark = span->needed;
    if (span->stamp != mark && !heap->urgent) {
        if (LU_UNLIKELY(span->track != 0)) (void)lu__track_refill(heap, span);
        span->stamp = mark;
        span->swept = 0;
        span->seen = 0;
        heap->changed = 1;
        return 1;
    }
    if (span->swept && span->stamp == mark) return 1;
    if (span->stamp != mark) span->seen = 0; /* urgent */
    span->stamp = mark;
    uint32_t calls = calls_of(purge), walk = UNITS_SPAN + listed_of(span) / UNIT_BLOCKS;
    purge_span(span, purge, LU_MAX(units / UNITS_CALL, CALLS_LEAST));
    *done = span->swept;
    heap->changed = 1;
    return walk + (calls_of(purge) - calls) * UNITS_CALL;
}

/* Go on with the pass for at most `units` of work, or a little more; what was used. */
static uint32_t sweep_some(struct heap *heap, uint32_t units) {
    struct page_purge purge = {.count = 0};
    uint32_t used = 0;
    while (heap->sweep_class < LU_CLASSES && used < units) {
        unsigned c = heap->sweep_class;
        if (heap->sweep_left == 0 || heap->partial[c] == NULL) {
            if (++heap->sweep_class < LU_CLASSES) {
                used += visit_current(heap, heap->sweep_class, &purge);
                heap->sweep_left = heap->partial_count[heap->sweep_class];
            }
            continue;
        }
        struct span *span = heap->partial[c];
        bool done;
        used += visit_partial(heap, span, &purge, units - used, &done);
        if (!done) continue; /* with the same one, perhaps at the next tick */
        heap->sweep_left--;
        lu__partial_remove(heap, span);
        lu__partial_append(heap, span);
    }
    if (heap->sweep_class == LU_CLASSES) heap->restless = heap->changed;
    finish(&purge);
    return used;
}

static void begin_pass(struct heap *heap, uint64_t now) {
    heap->pass_ms = now;
    heap->urgent = heap->urgent != LU_URGENT_NO ? LU_URGENT_NOW : LU_URGENT_NO;
    if (heap->hard != NULL) return lu__hard_sweep_begin(heap, heap->urgent);
    heap->changed = 0;
    heap->sweep_class = 0;
    struct page_purge purge = {.count = 0};
    (void)visit_current(heap, 0, &purge);
    finish(&purge);
    heap->sweep_left = heap->partial_count[0];
}

size_t lu__sweep_all(struct heap *heap, bool again) {
    if (heap->hard != NULL) {
        lu__hard_sweep(heap);
        return 0;
    }
    struct page_purge purge = {.count = 0};
    lu__remote_drain_all(heap);
    for (unsigned c = 0; c < LU_CLASSES; c++) {
        lu__small_demote(heap, c);
        for (struct span *span = heap->partial[c]; span != NULL; span = span->next) {
            if (!again && span->swept && span->stamp == span->needed) continue;
            span->seen = 0;
            purge_span(span, &purge, UINT32_MAX);
            span->stamp = span->needed;
        }
    }
    finish(&purge);
    return purge.bytes;
}

static void sweep_visit(struct heap *heap, void *arg) {
    *(size_t *)arg += lu__sweep_all(heap, true);
}

size_t lu__engine_purge(void) {
    struct heap *heap = lu__thread_enter();
    if (heap == NULL) return 0;
    size_t returned = 0;
    lu__remote_flush(heap);
    heap->purge_seen = __atomic_add_fetch(&lu__purge_request, 1, __ATOMIC_RELAXED);
    returned += lu__sweep_all(heap, true);
    lu__pool_each(sweep_visit, &returned);
    returned += lu__heap_purge_structures();
    returned += lu__run_purge(SIZE_MAX);
    (void)lu__run_give_addresses(LU_MIB);
    lu__thread_leave(heap);
    return returned;
}

/* ---------------------------------------------------------------- ticks */

struct pooled_sweep {
    uint64_t now, delay;
    uint32_t units;
};

/* True while a pass is under way. */
static bool is_sweeping(const struct heap *heap) {
    return heap->sweep_class < LU_CLASSES || heap->sweep_at != NULL;
}

/* The units of work used. */
static uint32_t sweep_paced(struct heap *heap, uint64_t now, uint64_t delay, uint32_t units) {
    bool idle = !is_sweeping(heap);
    if (heap->urgent == LU_URGENT_ASKED || (idle && now - heap->pass_ms >= delay / 4 + 1)) {
        begin_pass(heap, now);
    }
    if (!is_sweeping(heap)) return 0;
    uint32_t used = heap->hard != NULL ? lu__hard_sweep_some(heap, units) : sweep_some(heap, units);
    if (heap->urgent == LU_URGENT_NOW && !is_sweeping(heap)) heap->urgent = LU_URGENT_NO;
    return used;
}

/* Until the units are used up, by one heap or by many. */
static bool sweep_pooled(struct heap *heap, void *arg) {
    struct pooled_sweep *how = arg;
    bool works = heap->restless != 0;
    if (lu__remote_take_in(heap)) works = true;
    how->units -= LU_MIN(sweep_paced(heap, how->now, how->delay, how->units), how->units);
    if (works || is_sweeping(heap)) {
        lu__sweep_wake_pool();
    } else {
        (void)__atomic_add_fetch(&pool_idle, 1, __ATOMIC_RELAXED);
    }
    return how->units != 0;
}

static uint32_t purging; /* some thread is in purge_runs: two would give back twice what is due */

void lu__sweep_fork_child(void) {
    __atomic_store_n(&purging, 0, __ATOMIC_RELAXED);
}

/* Purge free runs, for at most `units` of work; what was used. One thread at a time. */
static uint32_t purge_runs(uint64_t now, uint32_t units) {
    if (__atomic_load_n(&lu__span_figures.dirty, __ATOMIC_RELAXED) == 0) return 0;
    if (__atomic_exchange_n(&purging, 1, __ATOMIC_ACQUIRE) != 0) return 0;
    size_t bytes = lu__run_purge_due(now, lu__limit_is_near(), units * UNIT_BYTES);
    __atomic_store_n(&purging, 0, __ATOMIC_RELEASE);
    return (uint32_t)LU_MIN(bytes / UNIT_BYTES, units);
}

/* How much the running tick may do, or 0. A busy program has many ticks at one time of the clock,
 * and many more calls: few of them work, and much. In another every call is one of few, and what is
 * allowed is shared by the ticks. */
static uint32_t share_of(const struct heap *heap) {
    if (heap->ticks_before >= TICKS_BUSY) return heap->allowed >= UNITS_MOST ? UNITS_MOST : 0;
    uint32_t share = LU_MAX(heap->allowed / LU_MAX(heap->ticks_before, 1u), UNITS_SHARE);
    uint32_t units = LU_MIN(LU_MIN(share, heap->allowed), LU_MIN(2 * heap->pace, UNITS_MOST));
    return units >= UNITS_LEAST ? units : 0;
}

/* Units of work for each millisecond, so that a pass, and purging, end within twice the delay or
 * so; no more, as each unit delays a call. */
static uint32_t pace_of(const struct heap *heap, uint64_t delay) {
    uint64_t bytes = __atomic_load_n(&lu__span_figures.dirty, __ATOMIC_RELAXED), spans = 0;
    for (unsigned c = 0; heap->restless && c < LU_CLASSES; c++) spans += heap->partial_count[c];
    uint64_t work = LU_MAX(spans * (UNITS_SPAN + 2 * UNITS_CALL), bytes / UNIT_BYTES);
    uint64_t pace = work / (2 * LU_MAX(delay, (uint64_t)DELAY_LEAST));
    return (uint32_t)LU_MIN(LU_MAX(pace, PACE_LEAST), PACE_MOST);
}

/* Work for some of what is allowed; true if there is more to do. */
static bool work_some(struct heap *heap, uint64_t now, uint64_t delay) {
    uint32_t units = share_of(heap);
    if (units == 0) return heap->owing;
    (void)lu__remote_take_in(heap);
    uint32_t purged = purge_runs(now, units), left = units - purged, used = 0;
    if (left >= UNITS_LEAST) used = sweep_paced(heap, now, delay, left);
    heap->allowed -= LU_MIN(purged + used, heap->allowed);
    return is_sweeping(heap) || purged >= units / 2 || lu__remote_waits(heap);
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
        struct pooled_sweep how = {now, delay, UNITS_POOL};
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
