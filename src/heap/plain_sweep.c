/*
 * plain_sweep.c - whole free pages of the kernel inside partly used spans go back to the system.
 *
 * A pass visits a heap's partial spans one after the other, and what has not changed between two
 * visits is idle, so its free pages go back. With pages of 64 KiB, as large as a slice, there are
 * none.
 *
 *     page      0        1        2        3
 *     block  |used|free|free|free|free|used|free|...       page 1 is free throughout: it is
 *                      ^^^^^^^^^^                           purged, bit 1 of span->purged is set
 *                                                           (of larger pages the bits of all
 *                                                           units), and the blocks that touch it
 *                                                           are off the list until a refill wants
 *                                                           them
 *
 * When, and how much at a time, sweep.c decides. By the heap's owner, or on a pooled heap that was
 * taken out of the pool for it; no lock is held.
 */
#include "heap/plain.h"
#include "heap/track.h"
#include "os/os.h"

#define IDLE_STEPS \
    512u /* blocks looked at to see that a current span is idle; one step of work each */
#define WORK_BLOCKS 8u /* of a list that is followed, for one step */
#define CALLS_LEAST 2u /* of the kernel, at a visit to a span */
#define RANGES 64
#define SLICE_UNITS (LU_SLICE >> LU_UNIT_SHIFT)

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

/* Take the blocks that touch the units off the list, keeping the order of the others. */
static void unlist(struct span *span, uintptr_t start, uint32_t units) {
    uint32_t size = lu__class_size[span->class_id];
    uintptr_t kept = LU_LIST_END, last = 0;
    for (uintptr_t b = span->head, next; b != LU_LIST_END; b = next) {
        next = lu__list_step(span->key, b);
        if (lu__block_units((uint32_t)(b - start), size) & units) {
            span->unlisted++;
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
 * span->swept_to; true if that were all. */
static bool purge_insides(struct span *span, struct page_purge *purge, uint32_t calls) {
    uint32_t size = lu__class_size[span->class_id], at = 0;
    for (uintptr_t b = span->head; b != LU_LIST_END; b = lu__list_step(span->key, b), at++) {
        if (at < span->swept_to) continue;
        uintptr_t first = lu__align_up(b + sizeof b, LU_OS_PAGE);
        uintptr_t end = lu__align_down(b + size, LU_OS_PAGE);
        if (end <= first) continue;
        if (calls-- == 0) {
            span->swept_to = (uint16_t)at;
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
    uint32_t unused = free_units(span, start) | span->purged;
    uint32_t all = whole_pages(unused) & ~whole_pages(span->purged);
    uint32_t units = first_runs(all, calls);
    if (units == 0) return;
    span->swept = units == all;
    unlist(span, start, units);
    __atomic_store_n(&span->purged, (uint16_t)(span->purged | units), __ATOMIC_RELAXED);
    __atomic_store_n(&span->bound, 0, __ATOMIC_RELAXED); /* frees look at `purged` first */
    while (units != 0) {
        uint32_t first = (uint32_t)__builtin_ctz(units);
        uint32_t length = (uint32_t)__builtin_ctz(~(units >> first));
        add_range(purge, span, start + ((uintptr_t)first << LU_UNIT_SHIFT),
                  (size_t)length << LU_UNIT_SHIFT);
        units &= ~(((1u << length) - 1) << first);
    }
}

/* ---------------------------------------------------------------- passes over a heap */

/* Give back what is not carved of a used slice, if nothing was since the last pass. */
static uint32_t purge_rest(struct span *span, struct page_purge *purge) {
    uint32_t limit = span->limit;
    uint32_t rest = (uint32_t)lu__align_up(limit, LU_OS_PAGE), end = (uint32_t)lu__span_bytes(span);
    bool still = span->swept_to == limit / 8;
    span->swept_to = (uint16_t)(limit / 8);
    if (!still || span->swept || span->zero || rest >= end) return 1;
    span->swept = 1;
    lu__run_forget_touched(span);
    add_range(purge, span, (uintptr_t)lu__span_start(span) + rest, end - rest);
    return LU_WORK_CALL;
}

/* Demote the current span of the class if nothing has happened to it since the last pass, or
 * nothing of it is out; the work of work that it took. */
static uint32_t visit_current(struct heap *heap, unsigned c, struct page_purge *purge) {
    struct span *span = heap->current[c];
    if (span == NULL) return 1;
    uint32_t mark = (uint32_t)heap->list[c] ^ span->needed ^ span->limit;
    uint32_t steps = IDLE_STEPS;
    if (heap->urgent || span->last_mark == mark || lu__small_is_idle(heap, c, &steps)) {
        uint32_t most = lu__span_carved(span) - span->unlisted;
        lu__small_demote(heap, c); /* counts the list */
        return 1 + IDLE_STEPS - steps + most / WORK_BLOCKS;
    }
    span->last_mark = mark;
    return purge_rest(span, purge) + IDLE_STEPS - steps;
}

/* How many blocks are on the list of a partial span. */
static uint32_t listed_of(const struct span *span) {
    return lu__span_carved(span) - span->unlisted - span->needed;
}

/* Visit a partial span, for about `work` of work; those that it took. *done: no more need be done
 * with it in this pass. */
static uint32_t visit_partial(struct heap *heap, struct span *span, struct page_purge *purge,
                              uint32_t work, bool *done) {
    *done = true;
    uint32_t mark = span->needed;
    if (span->last_mark != mark && !heap->urgent) {
        if (LU_UNLIKELY(span->track != 0)) (void)lu__track_refill(heap, span);
        span->last_mark = mark;
        span->swept = 0;
        span->swept_to = 0;
        heap->changing = 1;
        return 1;
    }
    if (span->swept && span->last_mark == mark) return 1;
    if (span->last_mark != mark) span->swept_to = 0; /* urgent */
    span->last_mark = mark;
    uint32_t calls = calls_of(purge), walk = LU_WORK_SPAN + listed_of(span) / WORK_BLOCKS;
    purge_span(span, purge, LU_MAX(work / LU_WORK_CALL, CALLS_LEAST));
    *done = span->swept;
    heap->changing = 1;
    return walk + (calls_of(purge) - calls) * LU_WORK_CALL;
}

/* Go on with the pass for at most `work` of work, or a little more; what was used. */
uint32_t lu__plain_sweep_some(struct heap *heap, uint32_t work) {
    struct page_purge purge = {.count = 0};
    uint32_t used = 0;
    while (heap->sweep_class < LU_CLASSES && used < work) {
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
        used += visit_partial(heap, span, &purge, work - used, &done);
        if (!done) continue; /* with the same one, perhaps at the next tick */
        heap->sweep_left--;
        lu__partial_remove(heap, span);
        lu__partial_append(heap, span);
    }
    if (heap->sweep_class == LU_CLASSES) heap->pass_changed = heap->changing;
    finish(&purge);
    return used;
}

void lu__plain_sweep_begin(struct heap *heap, bool all) {
    (void)all; /* heap->urgent says it, for as long as the pass lasts */
    heap->changing = 0;
    heap->sweep_class = 0;
    struct page_purge purge = {.count = 0};
    (void)visit_current(heap, 0, &purge);
    finish(&purge);
    heap->sweep_left = heap->partial_count[0];
}

size_t lu__plain_sweep_all(struct heap *heap, bool again) {
    struct page_purge purge = {.count = 0};
    lu__remote_drain_all(heap);
    for (unsigned c = 0; c < LU_CLASSES; c++) {
        lu__small_demote(heap, c);
        for (struct span *span = heap->partial[c]; span != NULL; span = span->next) {
            if (!again && span->swept && span->last_mark == span->needed) continue;
            span->swept_to = 0;
            purge_span(span, &purge, UINT32_MAX);
            span->last_mark = span->needed;
        }
    }
    finish(&purge);
    return purge.bytes;
}
