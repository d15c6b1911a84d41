/*
 * large.c - large blocks between guards, and their quarantine.
 *
 *     run     | no access ........ | block ............... | guard page |
 *             start                 start + span->offset     end of the run
 *
 * The block ends where the guard begins (but for its alignment), so that reading or writing beyond
 * it faults at once; in front of it the rest of the run is closed as well, up to the block's first
 * page. Bytes between the request's end and the guard are filled, and looked at when the block is
 * freed. Where the system refuses to change an access right, there is no guard: the block works all
 * the same.
 *
 * A freed block loses all access, so that its use faults at once, and waits:
 *
 *     free -> queue (first in, first out) -> stock -> malloc of no more than the run's size, and
 *                                              |      no less than half of it
 *                                              +----> opened, cleared and given back: when too
 *                                                     much is there, or for too long
 *
 * From the stock, a run needs one change of access rights, as its front and its guard are closed
 * already; and its pages are cleared rather than given to the system and fetched again, which takes
 * twenty times as long. What has been written to since the run was last all zero begins at
 * span->dirty_from. Pages that the block never touched are not touched here either.
 *
 * Queue and stock are one for the process, under their own lock; their runs stay taken.
 */
#include <errno.h>
#include <string.h>

#include "base/violation.h"
#include "harden/parts.h"
#include "os/os.h"

#define GUARDS_MOST 8192u /* each splits a mapping in three; the system allows 65,530 */
#define FILLING 0xa5u
#define QUEUE 64u
#define QUEUE_BYTES (4 * LU_MIB)
#define STOCK 32u
#define STOCK_BYTES (8 * LU_MIB)
#define STOCK_PART 8u             /* or this part of what is live, if that is more */
#define STOCK_MS 1000u            /* what has been there for longer goes at the next sweep */
#define KEEP_BYTES (256 * LU_KIB) /* smaller blocks are cleared without looking at their pages */
#define LOOK_PAGES 1024u          /* at a time */
#define HOLES_MOST 16u            /* pages that are not there, in runs */

static uint32_t guards; /* runs with a guard; relaxed atomic      */
static size_t live;     /* bytes of guarded runs; relaxed atomic  */
static struct lu__lock queue_lock = LU_LOCK_INIT(LU_RANK_LEAF);
static struct span *queue[QUEUE];
static uint32_t entered, left;    /* so many, ever: queue[left % QUEUE] is the oldest */
static size_t held;               /* bytes of the queue                    */
static struct span *stock[STOCK]; /* the oldest first                      */
static uint64_t came_ms[STOCK];   /* when each came                        */
static uint32_t stocked;          /* also looked at without the lock */
static size_t stock_bytes;
static bool some_closed; /* pages, ever; relaxed atomic */

/* How many bytes of runs wait in the queue. Larger ones do until the next is freed. */
static size_t queue_most(void) {
    return LU_MAX(lu__harden.quarantine * 64, QUEUE_BYTES);
}

static size_t stock_most(void) {
    return LU_MAX(__atomic_load_n(&live, __ATOMIC_RELAXED) / STOCK_PART, STOCK_BYTES);
}

/* Runs that came into the stock before this time have been there for too long. (The clock starts
 * with the system.) */
static uint64_t too_old(void) {
    uint64_t now = lu__os_now_ms();
    return now - LU_MIN(now, STOCK_MS);
}

static size_t block_bytes(size_t align, size_t size) {
    return lu__align_up(LU_MAX(size, 1), align > 16 && align <= LU_OS_PAGE ? align : 16);
}

/* What lies between the request's end and the guard, less than 16 bytes unless aligned to more. */
static void fill(char *at, uint32_t bytes) {
    memset(at, FILLING, bytes);
}

static bool is_filled(const char *at, uint32_t bytes) {
    uint8_t differs = 0;
    for (uint32_t i = 0; i < bytes; i++) differs |= (uint8_t)at[i] ^ FILLING;
    return differs == 0;
}

/* Where a filter refuses every change of access, nothing is closed, and nothing asks to be opened:
 * else each free would ask for all of the queue. */
static bool pages_close(char *at, size_t bytes) {
    int error = lu__os_protect(at, bytes);
    if (error != EPERM && error != ENOSYS) __atomic_store_n(&some_closed, true, __ATOMIC_RELAXED);
    return error == 0;
}

static bool pages_open(char *at, size_t bytes) {
    if (!__atomic_load_n(&some_closed, __ATOMIC_RELAXED)) return true;
    return lu__os_commit(at, bytes) == 0;
}

/* Close what lies around the `bytes` at `front`. False if that is refused, for too many mappings:
 * then a guard is missing. */
static bool close_around(char *start, size_t front, size_t bytes, size_t whole) {
    size_t before = lu__align_down(front, LU_OS_PAGE);
    size_t behind = lu__align_up(front + bytes, LU_OS_PAGE);
    bool closed = before == 0 || pages_close(start, before);
    return closed && (behind == whole || pages_close(start + behind, whole - behind));
}

bool lu__hard_may_guard(void) {
    return __atomic_load_n(&guards, __ATOMIC_RELAXED) < GUARDS_MOST;
}

/* ---------------------------------------------------------------- clearing */

/* Make whole pages zero, which are in memory or not. */
static void clear_range(char *at, size_t bytes, bool there) {
    if (there || lu__os_purge(at, bytes) != 0) memset(at, 0, bytes);
}

/* The same without fetching those that are not there. (What is not may be nothing, or swapped out:
 * to purge it is right for both.) */
static void clear_pages(char *at, size_t bytes) {
    unsigned char there[LOOK_PAGES];
    size_t page = LU_OS_PAGE, holes = 0;
    if (bytes <= KEEP_BYTES) return clear_range(at, bytes, true);
    for (char *end = at + bytes; at < end;) {
        size_t pages = LU_MIN((size_t)(end - at) / page, LOOK_PAGES);
        if (holes > HOLES_MOST || lu__os_resident(at, pages * page, there) != 0) {
            return clear_range(at, (size_t)(end - at), false); /* it is cheaper to have none */
        }
        for (size_t i = 0, next; i < pages; i = next) {
            for (next = i + 1; next < pages && ((there[next] ^ there[i]) & 1) == 0;) next++;
            clear_range(at + i * page, (next - i) * page, there[i] & 1);
            holes += (~there[i] & 1);
        }
        at += pages * page;
    }
}

/* ---------------------------------------------------------------- runs that leave */

/* Open the run and make it zero. */
static bool open_run(struct span *span) {
    char *start = lu__span_start(span);
    size_t whole = lu__span_bytes(span), bytes = whole - span->dirty_from;
    if (!pages_open(start, whole)) return false;
    if (lu__harden.zero_on_free && (bytes <= KEEP_BYTES || lu__os_purge(start, whole) != 0)) {
        memset(start + span->dirty_from, 0, bytes);
    }
    if (span->guarded) {
        __atomic_fetch_sub(&guards, 1, __ATOMIC_RELAXED);
        __atomic_fetch_sub(&live, whole, __ATOMIC_RELAXED);
    }
    span->guarded = span->hardened = 0; /* and taken, until it is another's */
    return true;
}

/* Give the run back. False: its access cannot be restored now, and it is as it was. */
static bool run_return(struct span *span) {
    if (!open_run(span)) return false;
    lu__run_free(span);
    return true;
}

/* The oldest run of the queue if there are more than `most` bytes, else NULL. Locked. */
static struct span *leaving(size_t coming, size_t most) {
    uint32_t count = entered - left;
    if (count == 0 || (count < QUEUE && held + coming <= most)) return NULL;
    struct span *span = queue[left % QUEUE];
    LU_SET(left, left + 1);
    held -= lu__span_bytes(span);
    return span;
}

/* To the end of the queue. If that is full, which takes as many refusals of the kernel, the run is
 * lost: it stays closed, and nobody can use it wrongly. Locked. */
static void enter(struct span *span) {
    if (entered - left == QUEUE) return;
    queue[entered % QUEUE] = span;
    held += lu__span_bytes(span);
    LU_SET(entered, entered + 1);
}

/* Take the run at `i` out of the stock. Locked. */
static struct span *unstock(uint32_t i) {
    struct span *span = stock[i];
    __atomic_store_n(&stocked, stocked - 1, __ATOMIC_RELAXED);
    memmove(&stock[i], &stock[i + 1], (stocked - i) * sizeof stock[0]);
    memmove(&came_ms[i], &came_ms[i + 1], (stocked - i) * sizeof came_ms[0]);
    stock_bytes -= lu__span_bytes(span);
    return span;
}

/* The oldest run of the stock, if there is too much with `coming` bytes, or if it came before `ms`.
 * Locked. */
static struct span *surplus(size_t coming, size_t most, uint64_t ms) {
    if (stocked == 0) return NULL;
    bool much = stocked == STOCK || stock_bytes + coming > most;
    return much || came_ms[0] < ms ? unstock(0) : NULL;
}

/* Put the run into the stock, or into the queue if the stock is full, which it is only while the
 * kernel refuses. Locked. */
static void put_in_stock(struct span *span) {
    if (stocked == STOCK) return enter(span);
    stock[stocked] = span;
    came_ms[stocked] = lu__os_now_ms();
    LU_SET(stocked, stocked + 1);
    stock_bytes += lu__span_bytes(span);
}

/* Give back what is too much or came before `ms`, and put `span` in, if there is one. */
static void settle_stock(struct span *span, size_t most, uint64_t ms) {
    size_t coming = span != NULL ? lu__span_bytes(span) : 0;
    for (struct span *old = NULL;;) {
        lu__lock_acquire(&queue_lock);
        if (old != NULL) put_in_stock(old); /* its access cannot be restored now */
        struct span *next = old == NULL ? surplus(coming, most, ms) : NULL;
        if (next == NULL && span != NULL) put_in_stock(span);
        lu__lock_release(&queue_lock);
        if (next == NULL) return;
        old = run_return(next) ? NULL : next;
    }
}

/* A closed run. What it pushes out of the queue goes into the stock; where the kernel refuses to
 * empty that, some may come back. */
static void wait_in_queue(struct span *span) {
    for (uint32_t tries = 0;; tries++) {
        lu__lock_acquire(&queue_lock);
        size_t most = tries < QUEUE ? queue_most() : SIZE_MAX;
        struct span *old = leaving(lu__span_bytes(span), most);
        if (old == NULL || tries > QUEUE) enter(span);
        lu__lock_release(&queue_lock);
        if (old == NULL) return;
        settle_stock(old, stock_most(), too_old());
        if (tries > QUEUE) return;
    }
}

void lu__hard_large_release(struct span *span) {
    __atomic_store_n(&span->taken, 1, __ATOMIC_RELAXED);
    if (!run_return(span)) wait_in_queue(span);
}

void lu__hard_large_check(const struct span *span) {
    size_t size = lu__large_bytes(span);
    char *block = lu__span_start(span) + span->offset;
    if (!is_filled(block + size, span->filling)) {
        lu__violation(LU_OVERFLOW, "free", block, block, size);
    }
}

void lu__hard_large_free(struct span *span) {
    size_t whole = lu__span_bytes(span);
    char *start = lu__span_start(span);
    size_t open = span->guarded ? lu__align_down(span->offset, LU_OS_PAGE) : 0;
    bool closed = lu__harden.quarantine != 0 && span->guarded &&
                  pages_close(start + open, whole - open);
    if (!closed) return lu__hard_large_release(span);
    /* A very large one does not keep its pages for the next, which would be too many. */
    if (whole > stock_most() && lu__os_purge(start, whole) == 0) span->dirty_from = (uint32_t)whole;
    wait_in_queue(span);
}

void lu__hard_large_tidy(bool all) {
    if (__atomic_load_n(&stocked, __ATOMIC_RELAXED) == 0) return;
    settle_stock(NULL, all ? 0 : stock_most(), all ? UINT64_MAX : too_old());
}

void lu__hard_large_flush(void) {
    struct span *old;
    lu__hard_large_tidy(true);
    do {
        lu__lock_acquire(&queue_lock);
        old = leaving(1, 0);
        lu__lock_release(&queue_lock);
    } while (old != NULL && run_return(old));
    if (old == NULL) return;
    lu__lock_acquire(&queue_lock);
    enter(old);
    lu__lock_release(&queue_lock);
}

static bool is_stocked(const struct span *span) {
    for (uint32_t i = 0; i < stocked; i++) {
        if (stock[i] == span) return true;
    }
    return false;
}

/* If the lock was held, it was in the middle of a change: what is in the queue can be read all the
 * same, and in the stock, of which a part may have moved down, runs may stand twice. */
void lu__hard_large_fork_child(void) {
    if (!lu__lock_fork_child(&queue_lock)) return;
    held = stock_bytes = 0;
    for (uint32_t i = left; i != entered; i++) held += lu__span_bytes(queue[i % QUEUE]);
    uint32_t before = stocked;
    stocked = 0;
    for (uint32_t i = 0; i < before; i++) {
        if (is_stocked(stock[i])) continue;
        stock[stocked] = stock[i];
        came_ms[stocked++] = came_ms[i];
        stock_bytes += lu__span_bytes(stock[i]);
    }
}

/* ---------------------------------------------------------------- allocation */

/* The smallest run of the stock that has `slices` and is not much larger, or NULL. */
static struct span *from_stock(size_t slices) {
    uint32_t best = STOCK;
    if (__atomic_load_n(&stocked, __ATOMIC_RELAXED) == 0) return NULL;
    lu__lock_acquire(&queue_lock);
    for (uint32_t i = 0; i < stocked; i++) {
        size_t has = stock[i]->slices;
        if (has < slices || has > 2 * slices) continue;
        if (best == STOCK || has <= stock[best]->slices) best = i;
    }
    struct span *span = best != STOCK ? unstock(best) : NULL;
    lu__lock_release(&queue_lock);
    return span;
}

/* Open the end of a closed run, but for the guard, for a block of `bytes`, and clear it. */
static bool open_end(struct span *span, size_t bytes) {
    char *start = lu__span_start(span);
    size_t end = lu__span_bytes(span) - LU_OS_PAGE;
    size_t front = lu__align_down(end - bytes, LU_OS_PAGE), dirty = span->dirty_from;
    if (!pages_open(start + front, end - front)) return false;
    if (dirty < end) clear_pages(start + LU_MAX(front, dirty), end - LU_MAX(front, dirty));
    /* What a larger block left in front of this one can be kept if it is little. */
    bool gone = dirty >= front ||
                (front - dirty > KEEP_BYTES && lu__os_purge(start + dirty, front - dirty) == 0);
    if (gone) span->dirty_from = (uint32_t)front;
    return true;
}

static void *set_up(struct span *span, struct heap *user, size_t front, size_t bytes, size_t size) {
    char *start = lu__span_start(span);
    __atomic_store_n(&span->large_bytes, LU_MAX(size, 1), __ATOMIC_RELAXED);
    span->filling = (uint16_t)(bytes - LU_MAX(size, 1)); /* less than the largest page */
    fill(start + front + bytes - span->filling, span->filling);
    __atomic_store_n(&span->offset, (uint32_t)front, __ATOMIC_RELAXED);
    span->hardened = 1;
    __atomic_store_n(&span->taken, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&span->owner, user, __ATOMIC_RELAXED);
    if (user != NULL) lu__heap_link(user, span);
    return start + front;
}

static void *alloc_from_stock(struct heap *user, size_t bytes, size_t slices, size_t size) {
    struct span *span = from_stock(slices);
    if (span == NULL) return NULL;
    if (!open_end(span, bytes)) {
        lu__lock_acquire(&queue_lock);
        put_in_stock(span);
        lu__lock_release(&queue_lock);
        return NULL;
    }
    return set_up(span, user, lu__span_bytes(span) - LU_OS_PAGE - bytes, bytes, size);
}

void *lu__hard_large_alloc(struct heap *user, size_t align, size_t size, bool *zero) {
    if (size > (size_t)PTRDIFF_MAX || align > (size_t)PTRDIFF_MAX / 2) return NULL;
    size_t bytes = block_bytes(align, size);
    size_t guard = lu__harden.guard_large && lu__hard_may_guard() ? LU_OS_PAGE : 0;
    size_t slices = (lu__align_up(bytes, LU_OS_PAGE) + guard + LU_SLICE - 1) >> LU_SLICE_SHIFT;
    size_t align_slices = LU_MAX(align >> LU_SLICE_SHIFT, 1);
    if (guard != 0 && align <= LU_OS_PAGE && lu__harden.zero_on_free) {
        void *block = alloc_from_stock(user, bytes, slices, size);
        *zero = true;
        if (block != NULL) return block;
    }
    struct span *span = lu__run_alloc(slices, align_slices, LU_KIND_LARGE, zero);
    if (span == NULL) {
        *zero = true; /* no run so long: a mapping of its own */
        return lu__large_huge(user, align, size);
    }
    size_t whole = lu__span_bytes(span);
    size_t front = align > LU_OS_PAGE ? 0 : whole - guard - bytes;
    span->guarded = guard != 0;
    span->dirty_from = (uint32_t)lu__align_down(front, LU_OS_PAGE);
    if (guard != 0) {
        __atomic_fetch_add(&guards, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&live, whole, __ATOMIC_RELAXED);
        (void)close_around(lu__span_start(span), front, bytes, whole);
    }
    *zero = *zero || lu__harden.zero_on_free;
    return set_up(span, user, front, bytes, size);
}
