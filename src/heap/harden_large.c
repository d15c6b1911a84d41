/*
 * harden_large.c - large blocks between guards, and their quarantine.
 *
 *     run     | no access ........ | block ............... | guard page |
 *             start                 start + span->limit     end of the run
 *
 * The block ends where the guard begins (but for its alignment), so that reading or writing beyond
 * it faults at once; in front of it the rest of the run is closed as well, up to the block's first
 * page. Bytes between the request's end and the guard are filled, and looked at when the block is
 * freed. A freed block loses all access, so that its use faults at once, and waits in a queue with
 * others; only then are its pages cleared and its run is given back. Where the system refuses to
 * change an access right, there is no guard: the block works all the same.
 *
 * The queue is one for the process, under its own lock; span->swept marks a run in it.
 */
#include <string.h>

#include "base/violation.h"
#include "heap/harden_parts.h"
#include "os/os.h"
#include "span/huge.h"

#define GUARDS_MOST 8192u /* each splits a mapping in three; the system allows 65,530 */
#define FILLING 0xa5u
#define QUEUE 64u
#define LARGE_LEAST (4 * LU_MIB)
#define KEEP_BYTES (256 * LU_KIB) /* smaller blocks are cleared, larger ones given to the system */

static uint32_t guards; /* runs with a guard; relaxed atomic */
static struct lu__lock queue_lock;
static struct span *queue[QUEUE];
static uint32_t oldest, count; /* of queue */
static size_t held;

/* How many bytes of runs wait. Larger ones do until the next is freed. */
static size_t most(void) {
    return LU_MAX(lu__harden.quarantine * 64, LARGE_LEAST);
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

/* Close what lies around the `bytes` at `front`. False if that is refused, for too many mappings:
 * then a guard is missing. */
static bool close_around(char *start, size_t front, size_t bytes, size_t whole) {
    size_t before = lu__align_down(front, LU_OS_PAGE);
    size_t behind = lu__align_up(front + bytes, LU_OS_PAGE);
    bool closed = before == 0 || lu__os_protect(start, before) == 0;
    return closed && (behind == whole || lu__os_protect(start + behind, whole - behind) == 0);
}

bool lu__hard_may_guard(void) {
    return __atomic_load_n(&guards, __ATOMIC_RELAXED) < GUARDS_MOST;
}

void *lu__hard_large_alloc(struct heap *user, size_t align, size_t size, bool *zero) {
    if (size > (size_t)PTRDIFF_MAX || align > (size_t)PTRDIFF_MAX / 2) return NULL;
    size_t bytes = block_bytes(align, size);
    size_t guard = lu__harden.guard_large && lu__hard_may_guard() ? LU_OS_PAGE : 0;
    size_t slices = (lu__align_up(bytes, LU_OS_PAGE) + guard + LU_SLICE - 1) >> LU_SLICE_SHIFT;
    size_t align_slices = LU_MAX(align >> LU_SLICE_SHIFT, 1);
    struct span *span = lu__run_alloc(slices, align_slices, LU_KIND_LARGE, zero);
    if (span == NULL) {
        *zero = true; /* no run so long: a mapping of its own */
        return lu__huge_alloc(LU_MAX(size, 1), align, user);
    }
    char *start = lu__span_start(span);
    size_t whole = lu__span_bytes(span);
    size_t front = align > LU_OS_PAGE ? 0 : whole - guard - bytes;
    span->guarded = guard != 0;
    if (guard != 0) {
        __atomic_fetch_add(&guards, 1, __ATOMIC_RELAXED);
        (void)close_around(start, front, bytes, whole);
    }
    *zero = *zero || lu__harden.zero_on_free;
    __atomic_store_n(&span->remote, LU_MAX(size, 1), __ATOMIC_RELAXED);
    span->off = (uint32_t)(bytes - LU_MAX(size, 1));
    fill(start + front + bytes - span->off, span->off);
    __atomic_store_n(&span->limit, (uint32_t)front, __ATOMIC_RELAXED);
    span->hardened = 1;
    span->moved = span->swept = 0;
    span->owner = user;
    if (user != NULL) lu__heap_link(user, span);
    return start + front;
}

static bool open_run(struct span *span) {
    char *start = lu__span_start(span);
    size_t whole = lu__span_bytes(span), bytes = lu__large_bytes(span) + span->off;
    if (lu__os_commit(start, whole) != 0) return false;
    if (lu__harden.zero_on_free && (bytes <= KEEP_BYTES || lu__os_purge(start, whole) != 0)) {
        memset(start + span->limit, 0, bytes);
    }
    if (span->guarded) __atomic_fetch_sub(&guards, 1, __ATOMIC_RELAXED);
    span->guarded = span->hardened = span->swept = 0;
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
    if (count == 0 || (count < QUEUE && held + coming <= most)) return NULL;
    struct span *span = queue[oldest];
    oldest = (oldest + 1) % QUEUE;
    count--;
    held -= lu__span_bytes(span);
    return span;
}

/* To the end of the queue. If that is full, which takes as many refusals of the kernel, the run is
 * lost: it stays closed, and nobody can use it wrongly. Locked. */
static void enter(struct span *span) {
    if (count == QUEUE) return;
    queue[(oldest + count) % QUEUE] = span;
    held += lu__span_bytes(span);
    count++;
}

/* Into the queue, and what it pushes out of that back. What cannot be given back waits on. */
static void wait_in_queue(struct span *span) {
    for (struct span *old = NULL;;) {
        lu__lock_acquire(&queue_lock);
        if (old != NULL) enter(old);
        struct span *next = old == NULL ? leaving(lu__span_bytes(span), most()) : NULL;
        if (next == NULL) enter(span);
        lu__lock_release(&queue_lock);
        if (next == NULL) return;
        old = run_return(next) ? NULL : next;
    }
}

void lu__hard_large_release(struct span *span) {
    span->swept = 1;
    if (!run_return(span)) wait_in_queue(span);
}

void lu__hard_large_free(struct span *span) {
    size_t bytes = lu__span_bytes(span), size = lu__large_bytes(span);
    char *block = lu__span_start(span) + span->limit;
    if (!is_filled(block + size, span->off)) {
        lu__violation(LU_OVERFLOW, "free", block, block, size);
    }
    /* Pages first, which makes the other cheap. */
    bool kept = bytes <= KEEP_BYTES || lu__os_purge(lu__span_start(span), bytes) == 0;
    bool closed = lu__harden.quarantine != 0 && span->guarded && kept &&
                  lu__os_protect(lu__span_start(span), bytes) == 0;
    if (!closed) return lu__hard_large_release(span);
    span->swept = 1;
    wait_in_queue(span);
}

void lu__hard_large_flush(void) {
    struct span *old;
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

void lu__hard_large_fork_child(void) {
    if (!lu__lock_is_mine(&queue_lock)) lu__lock_reset(&queue_lock);
}
