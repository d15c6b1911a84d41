/*
 * operators.c - operator new and delete of C++17, by mangled name.
 *
 * Build note: compile this file with -fexceptions: bad_alloc passes through its frames (and nothing
 * here needs to be undone then).
 *
 * libstdc++'s operators end in malloc and free, which wrap.c records; an allocator's own (lucid,
 * jemalloc, tcmalloc and mimalloc have some) need not. So each of these calls the next one, and
 * records what wrap.c, or an operator further in, has not seen:
 *
 *     new       after it: unless the last block that this thread recorded is the one returned
 *     delete    before it; free and operators of the same block are then not recorded again
 *               while it is under way (record_thread.deleted)
 *
 * What a new-handler allocates or frees meanwhile is recorded as ever, so `depth` is not used here.
 *
 * The next operator is looked for at each operator's first use: libstdc++ may be loaded late, and
 * for its user alone, where RTLD_NEXT does not find it. No lock; an address is written by whoever
 * finds it.
 */
#include "record/record.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/format.h"

#define SITE __builtin_return_address(0)

/* ------------------------------------------------------------------ the next one ------------- */

static LU_COLD void *find(const char *name) {
    static const char *const runtimes[] = {"libstdc++.so.6", "libc++.so.1", "libc++abi.so.1"};
    int kept = errno;
    void *found = dlsym(RTLD_NEXT, name);
    for (size_t i = 0; found == NULL && i < LU_COUNT_OF(runtimes); i++) {
        void *runtime = dlopen(runtimes[i], RTLD_LAZY | RTLD_NOLOAD);
        if (runtime == NULL) continue;
        found = dlsym(runtime, name);
        dlclose(runtime); /* its user holds it */
    }
    errno = kept;
    if (found == NULL) {
        lu__print(STDERR_FILENO, "lucid: recording: there is no %s behind\n", name);
        abort();
    }
    return found;
}

/* The function called `name`, found once for each place that this stands in. */
#define NEXT(name)                                                \
    ({                                                            \
        static void *found_;                                      \
        void *next_ = __atomic_load_n(&found_, __ATOMIC_ACQUIRE); \
        if (LU_UNLIKELY(next_ == NULL)) {                         \
            next_ = find(name);                                   \
            __atomic_store_n(&found_, next_, __ATOMIC_RELEASE);   \
        }                                                         \
        next_;                                                    \
    })

/* ------------------------------------------------------------------ new ---------------------- */

enum { NO_ALIGNMENT = 0 };

static void note_new(const void *block, uint64_t made_before, size_t size, size_t alignment,
                     const void *site) {
    const struct record_thread *me = &record_me;
    if (block == NULL || me->depth != 0) return;
    if (me->made != made_before && me->last == block) return;
    record_alloc(alignment != NO_ALIGNMENT ? TRACE_TAG_ALIGNED : TRACE_TAG_MALLOC, block, size,
                 alignment != NO_ALIGNMENT ? alignment : 1, site);
}

/* What malloc then records was asked for at `site`. False if an operator further out has said so;
 * one that was left by an exception says nothing: what is called from it would be deeper. */
static bool begin_new(const void *site, uintptr_t frame) {
    struct record_thread *me = &record_me;
    if (me->site != NULL && frame < me->frame) return false;
    me->site = site;
    me->frame = frame;
    return true;
}

/* One operator new: `parameters` and, in the same order, the arguments that are passed on. */
#define NEW(name, alignment, parameters, ...)                                    \
    RECORD_EXPORT void *name parameters;                                         \
    RECORD_EXPORT void *name parameters {                                        \
        record_prepare();                                                        \
        void *(*next)parameters = (void *(*)parameters)NEXT(#name);              \
        uint64_t made = record_me.made;                                          \
        bool outermost = begin_new(SITE, (uintptr_t)__builtin_frame_address(0)); \
        void *block = next(__VA_ARGS__);                                         \
        if (outermost) record_me.site = NULL;                                    \
        note_new(block, made, size, alignment, SITE);                            \
        return block;                                                            \
    }

NEW(_Znwm, NO_ALIGNMENT, (size_t size), size)
NEW(_Znam, NO_ALIGNMENT, (size_t size), size)
NEW(_ZnwmRKSt9nothrow_t, NO_ALIGNMENT, (size_t size, const void *nothrow), size, nothrow)
NEW(_ZnamRKSt9nothrow_t, NO_ALIGNMENT, (size_t size, const void *nothrow), size, nothrow)
NEW(_ZnwmSt11align_val_t, align, (size_t size, size_t align), size, align)
NEW(_ZnamSt11align_val_t, align, (size_t size, size_t align), size, align)
NEW(_ZnwmSt11align_val_tRKSt9nothrow_t, align, (size_t size, size_t align, const void *nothrow),
    size, align, nothrow)
NEW(_ZnamSt11align_val_tRKSt9nothrow_t, align, (size_t size, size_t align, const void *nothrow),
    size, align, nothrow)

/* ------------------------------------------------------------------ delete ------------------- */

/* What `deleted` was; the caller puts it back afterwards. */
static const void *begin_delete(const void *block, const void *site) {
    struct record_thread *me = &record_me;
    const void *before = me->deleted;
    if (block != NULL && block != before && me->depth == 0) {
        record_free(block, site);
        me->deleted = block;
    }
    return before;
}

#define DELETE(name, parameters, ...)                             \
    RECORD_EXPORT void name parameters;                           \
    RECORD_EXPORT void name parameters {                          \
        record_prepare();                                         \
        void(*next) parameters = (void(*) parameters)NEXT(#name); \
        const void *before = begin_delete(block, SITE);           \
        next(__VA_ARGS__);                                        \
        record_me.deleted = before;                               \
    }

DELETE(_ZdlPv, (void *block), block)
DELETE(_ZdaPv, (void *block), block)
DELETE(_ZdlPvm, (void *block, size_t size), block, size)
DELETE(_ZdaPvm, (void *block, size_t size), block, size)
DELETE(_ZdlPvRKSt9nothrow_t, (void *block, const void *nothrow), block, nothrow)
DELETE(_ZdaPvRKSt9nothrow_t, (void *block, const void *nothrow), block, nothrow)
DELETE(_ZdlPvSt11align_val_t, (void *block, size_t align), block, align)
DELETE(_ZdaPvSt11align_val_t, (void *block, size_t align), block, align)
DELETE(_ZdlPvmSt11align_val_t, (void *block, size_t size, size_t align), block, size, align)
DELETE(_ZdaPvmSt11align_val_t, (void *block, size_t size, size_t align), block, size, align)
DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, (void *block, size_t align, const void *nothrow), block,
       align, nothrow)
DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, (void *block, size_t align, const void *nothrow), block,
       align, nothrow)
