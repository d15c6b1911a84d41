/*
 * violation.c - how misuse of the allocator by the program is reported.
 *
 * Code that detects a double free, a wild pointer and the like calls lu__violation and then leaves
 * the heap as it is: whatever was damaged stays out of use. The order here is
 *
 *     count it -> build the line on the stack -> the program's handler -> "go on"? return
 *              -> abort:0? print the line, if it is the 1st, 10th, 100th... of its kind at this
 *                          place of the program (told.c); return
 *              -> print the line, abort
 *
 * The handler is called each time, because only it knows whether to go on. The mistake may be at a
 * place that runs a million times, so the handler learns how often it has happened.
 *
 * A violation that is found inside, with locks held and structures half changed, is noted and
 * reported when the thread leaves, still in the same call of the program: so the handler may do
 * what any code of the program may do. The damaged memory is out of use by then.
 *
 * State: one handler and its argument, which belong together and are therefore read and written as
 * a pair under `handler_lock`; the lock is never held while the handler runs. A handler that
 * misuses the allocator itself is not called again from within. A handler that was left by a jump
 * is recognised by its frame: when the next one is called from further up the stack, the old one no
 * longer runs.
 *
 * May be called from any thread, also in a signal handler that frees (the lock is held for two
 * stores, and only by lu_set_violation_handler and here). Nothing here allocates.
 */
#include "base/violation.h"

#include "base/format.h"
#include "base/options.h"
#include "base/spin.h"
#include "base/told.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_BYTES = 256, KEPT_MOST = 64 };

void (*lu__spin_before)(void);
static struct lu__spin handler_lock;
static lu_violation_fn *handler_fn; /* protected by handler_lock; relaxed atomic, for a look */
static void *handler_arg;           /* protected by handler_lock */
static __thread uintptr_t handling; /* the frame that this thread's handler was called from, or 0 */
static lu__place_fn *find_place;    /* relaxed atomic; NULL before the library is loaded */
static bool (*tell_later)(void);    /* the same */

/* Violations found inside. One array for all threads, because libc has little room for thread-local
 * variables of the fast kind. */
struct kept {
    const void *thread; /* atomic; NULL: not in use */
    lu_violation_kind_t kind;
    const char *call;
    const void *pointer, *block;
    size_t block_bytes;
};
static struct kept all_kept[KEPT_MOST];

_Static_assert((int)LU_GUARD_USE_AFTER_FREE < (int)LU_TOLD_KINDS, "every kind is counted");

static const char *kind_text(lu_violation_kind_t kind) {
    switch (kind) {
    case LU_DOUBLE_FREE:
        return "double free";
    case LU_FOREIGN_POINTER:
        return "pointer not from lucid";
    case LU_WILD_POINTER:
        return "wild pointer";
    case LU_INTERIOR_POINTER:
        return "interior pointer";
    case LU_CORRUPT_LINK:
        return "corrupt free list";
    case LU_SIZE_MISMATCH:
        return "size mismatch";
    case LU_ALIGN_MISMATCH:
        return "alignment mismatch";
    case LU_WRONG_HEAP:
        return "wrong heap";
    case LU_DELETE_MISMATCH:
        return "array and plain delete mixed";
    case LU_WRITE_AFTER_FREE:
        return "write after free";
    case LU_OVERFLOW:
        return "overflow";
    case LU_GUARD_OVERFLOW:
        return "access beyond the block";
    case LU_GUARD_UNDERFLOW:
        return "access before the block";
    case LU_GUARD_USE_AFTER_FREE:
        return "use after free";
    }
    return "unknown violation";
}

static void build_line(char *line, const lu_violation_t *violation) {
    struct lu__text text;
    lu__text_init(&text, line, LINE_BYTES);
    lu__text_add(&text, "lucid: %s(%p): %s", violation->call, violation->pointer,
                 kind_text(violation->kind));
    if (violation->block != NULL) lu__text_add(&text, ": block %p", violation->block);
    if (violation->block_bytes != 0) lu__text_add(&text, " of %zu bytes", violation->block_bytes);
    if (violation->times == 1) return;
    lu__text_add(&text, ", %zu times", violation->times);
    if (violation->place != NULL) lu__text_add(&text, " at %p", violation->place);
}

/* If `call` is known but the place is not, the violations are counted by the call's name. */
static uint64_t count(lu_violation_kind_t kind, const char *call, const struct lu__place *place) {
    return lu__told_count(kind, place->mark != 0 ? place->mark : (uintptr_t)call);
}

/* True if the program has a handler and it says to go on. */
static bool handler_goes_on(const lu_violation_t *violation) {
    sigset_t signals;
    if (__atomic_load_n(&handler_fn, __ATOMIC_RELAXED) == NULL) return false; /* no system call */
    lu__spin_acquire(&handler_lock, &signals);
    lu_violation_fn *fn = handler_fn;
    void *arg = handler_arg;
    lu__spin_release(&handler_lock, &signals);
    uintptr_t frame = (uintptr_t)__builtin_frame_address(0);
    if (fn == NULL || (handling != 0 && frame < handling)) return false;
    handling = frame;
    bool go_on = fn(violation, arg);
    handling = 0;
    return go_on;
}

bool lu__violation_told(lu_violation_kind_t kind, const char *call, const void *pointer,
                        const void *block, size_t block_bytes, lu__violation_more_fn *more,
                        const void *arg, const void *at) {
    int saved = errno;
    char line[LINE_BYTES];
    lu__place_fn *find = __atomic_load_n(&find_place, __ATOMIC_RELAXED);
    struct lu__place place = {at, (uintptr_t)at};
    if (at == NULL && find != NULL) place = find();
    lu_violation_t violation = {.kind = kind,
                                .pointer = pointer,
                                .call = call,
                                .block = block,
                                .block_bytes = block_bytes,
                                .message = line,
                                .place = place.address,
                                .times = count(kind, call, &place)};
    build_line(line, &violation);
    bool go_on = handler_goes_on(&violation);
    if (!go_on) {
        go_on = lu__option(LU_OPT_ABORT) == 0;
        bool last = !go_on, due = last || lu__told_is_due(violation.times);
        if (due) lu__print(STDERR_FILENO, "%s\n", line);
        if (more != NULL && (last || violation.times == 1)) more(arg);
    }
    errno = saved;
    return go_on;
}

void lu__violation_with(lu_violation_kind_t kind, const char *call, const void *pointer,
                        const void *block, size_t block_bytes, lu__violation_more_fn *more,
                        const void *arg) {
    if (!lu__violation_told(kind, call, pointer, block, block_bytes, more, arg, NULL)) abort();
}

static const void *this_thread(void) {
    return &handling;
}

static bool is_mine(const struct kept *kept) {
    return __atomic_load_n(&kept->thread, __ATOMIC_RELAXED) == this_thread();
}

/* Note it for when the thread leaves. A signal handler may do the same in between, and reports
 * nothing. */
static void keep(lu_violation_kind_t kind, const char *call, const void *pointer, const void *block,
                 size_t block_bytes) {
    unsigned mine = 0;
    for (unsigned i = 0; i < KEPT_MOST; i++) mine += is_mine(&all_kept[i]);
    for (unsigned i = 0; i < KEPT_MOST && mine < LU_VIOLATIONS_KEPT; i++) {
        struct kept *kept = &all_kept[i];
        const void *nobody = NULL;
        if (__atomic_compare_exchange_n(&kept->thread, &nobody, this_thread(), false,
                                        __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
            kept->kind = kind;
            kept->call = call;
            kept->pointer = pointer;
            kept->block = block;
            kept->block_bytes = block_bytes;
            return;
        }
    }
}

void lu__violation_tell_kept(void) {
    struct kept now[LU_VIOLATIONS_KEPT]; /* the handler may be the cause of more */
    unsigned count = 0;
    for (unsigned i = 0; i < KEPT_MOST && count < LU_VIOLATIONS_KEPT; i++) {
        if (!is_mine(&all_kept[i])) continue;
        now[count++] = all_kept[i];
        __atomic_store_n(&all_kept[i].thread, NULL, __ATOMIC_RELEASE);
    }
    for (unsigned i = 0; i < count; i++) {
        lu__violation_with(now[i].kind, now[i].call, now[i].pointer, now[i].block,
                           now[i].block_bytes, NULL, NULL);
    }
}

void lu__violation(lu_violation_kind_t kind, const char *call, const void *pointer,
                   const void *block, size_t block_bytes) {
    bool (*later)(void) = __atomic_load_n(&tell_later, __ATOMIC_RELAXED);
    if (later != NULL && later()) {
        keep(kind, call, pointer, block, block_bytes);
    } else {
        lu__violation_with(kind, call, pointer, block, block_bytes, NULL, NULL);
    }
}

void lu_set_violation_handler(lu_violation_fn *handler, void *arg) {
    sigset_t signals;
    lu__spin_acquire(&handler_lock, &signals);
    /* A child forked between these stores has no handler, or a whole one. */
    __atomic_store_n(&handler_fn, NULL, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    handler_arg = arg;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&handler_fn, handler, __ATOMIC_RELAXED);
    lu__spin_release(&handler_lock, &signals);
}

void lu__violation_init(lu__place_fn *find, bool (*later)(void)) {
    __atomic_store_n(&tell_later, later, __ATOMIC_RELAXED);
    __atomic_store_n(&find_place, find, __ATOMIC_RELAXED);
}

void lu__violation_fork_child(void) {
    lu__spin_reset(&handler_lock);
    for (unsigned i = 0; i < KEPT_MOST; i++) { /* the thread that found it is not here */
        if (!is_mine(&all_kept[i])) __atomic_store_n(&all_kept[i].thread, NULL, __ATOMIC_RELAXED);
    }
}
