/*
 * cxx.c - every replaceable operator new and delete of C++17, by mangled name.
 *
 * Build note: compile this file with -fexceptions. A new-handler may throw, and the exception
 * passes through the frames here.
 *
 * A C program must not need libstdc++, so whatever comes from there is a weak reference: in a
 * program without it nobody calls these operators and the references stay NULL. In a static program
 * only those parts of libstdc++ are there that something else asked for; throw_bad_alloc below
 * makes do with what a program that throws has. One that only catches, and nothing but
 * std::exception or (...), is to be linked with -u _ZSt17__throw_bad_allocv.
 *
 * The operators call each other exactly where the standard says that the default ones do, because a
 * program may replace some of them only, and then expects new[] to come through its own new, and
 * never to see a block from its own new in our delete:
 *
 *     new[](n)           -> new(n)              delete[](p)           -> delete(p)
 *     new(n, nothrow)    -> new(n), caught      delete(p, n)          -> delete(p)
 *     new[](n, nothrow)  -> new[](n), caught    delete[](p, n)        -> delete[](p)
 *     the same with an alignment                delete...(p, nothrow) -> delete...(p)
 *
 * Our own definitions are weak, so that a static link takes the program's where there is one. Where
 * the address that an operator has in this process is the one that it has in this file, those that
 * forward to it take the shorter way, straight into the heap. (Hence the library must not be linked
 * with -Bsymbolic.) These addresses never change, so `ours` remembers what was found at load.
 *
 * The nothrow forms must swallow what a new-handler throws. C has no catch; catch_all is a frame of
 * a few instructions with a personality routine of its own that stops every C++ exception there. It
 * is written in the processor's own language, in catch_*.h.
 *
 * No lock.
 */
#include "api/surface.h"
#include "base/base.h"
#include "base/format.h"
#include "engine/engine.h"
#include "lucid/lucid.h"

#include <stdlib.h>
#include <unistd.h>
#include <unwind.h>

#include "engine/fast.h"
#include "engine/hardened_fast.h"
#include "harden/harden.h"

#if LU_INTERPOSE

#define WEAK __attribute__((weak))
#define OPERATOR __attribute__((weak, visibility("default")))

typedef void new_handler_fn(void);
/* The alignment of blocks that new without an alignment gives; aligned forms ask for it by name. */
enum { NO_ALIGNMENT = 0 };

/* ------------------------------------------------------------------ from the C++ runtime ----- */

extern new_handler_fn *get_new_handler(void) __asm__("_ZSt15get_new_handlerv") WEAK;
extern void std_throw_bad_alloc(void) __asm__("_ZSt17__throw_bad_allocv") WEAK;
extern char bad_alloc_vtable[] __asm__("_ZTVSt9bad_alloc") WEAK;
extern char bad_alloc_type[] __asm__("_ZTISt9bad_alloc") WEAK;
extern void bad_alloc_destroy(void *exception) __asm__("_ZNSt9bad_allocD1Ev") WEAK;
extern void *__cxa_allocate_exception(size_t size) WEAK;
extern void __cxa_throw(void *exception, void *type, void (*destroy)(void *)) WEAK;
extern void *__cxa_begin_catch(void *exception) WEAK;
extern void __cxa_end_catch(void) WEAK;
#pragma weak _Unwind_SetGR
#pragma weak _Unwind_SetIP
#pragma weak _Unwind_GetIP

/* throw std::bad_alloc(). The helper of the runtime does it where it is linked; without it the
 * object is made by hand: a pointer to the virtual functions, past the two words before them. */
__attribute__((noreturn)) static LU_COLD void throw_bad_alloc(void) {
    if (std_throw_bad_alloc != NULL) std_throw_bad_alloc();
    if (__cxa_allocate_exception != NULL && __cxa_throw != NULL && bad_alloc_destroy != NULL) {
        void **exception = __cxa_allocate_exception(sizeof(void *));
        *exception = bad_alloc_vtable + 2 * sizeof(void *);
        __cxa_throw(exception, bad_alloc_type, bad_alloc_destroy);
    }
    lu__print(STDERR_FILENO, "lucid: operator new: out of memory, and nothing can be thrown\n");
    abort();
}

/* ------------------------------------------------------------------ catch (...) -------------- */

/* catch_all(fn, size, alignment): what fn(size, alignment) returns, or NULL if it threw. */
void *lu__cxx_catch_all(void *(*fn)(size_t, size_t), size_t size, size_t alignment)
    __attribute__((visibility("hidden")));
_Unwind_Reason_Code
lu__cxx_personality(int version, _Unwind_Action actions, _Unwind_Exception_Class class,
                    struct _Unwind_Exception *exception, struct _Unwind_Context *context)
    __attribute__((visibility("hidden"), used)); /* `used`: the link-time optimiser sees no asm */
void lu__cxx_swallow(void *exception) __attribute__((visibility("hidden"), used));
extern const char lu__cxx_returned[] __attribute__((visibility("hidden")));
extern const char lu__cxx_landing[] __attribute__((visibility("hidden")));

#if defined(__x86_64__)
#include "api/catch_x86_64.h"
#else
#include "api/catch_aarch64.h"
#endif

/* Asked by the unwinder about the frame of catch_all: yes to every exception out of the call, no to
 * a thread that is cancelled. */
_Unwind_Reason_Code lu__cxx_personality(int version, _Unwind_Action actions,
                                        _Unwind_Exception_Class class,
                                        struct _Unwind_Exception *exception,
                                        struct _Unwind_Context *context) {
    (void)version, (void)class;
    if ((actions & _UA_FORCE_UNWIND) != 0 || _Unwind_GetIP(context) != (uintptr_t)lu__cxx_returned)
        return _URC_CONTINUE_UNWIND;
    if ((actions & _UA_SEARCH_PHASE) != 0) return _URC_HANDLER_FOUND;
    _Unwind_SetGR(context, LU_EXCEPTION_REGISTER, (uintptr_t)exception);
    _Unwind_SetIP(context, (uintptr_t)lu__cxx_landing);
    return _URC_INSTALL_CONTEXT;
}

void lu__cxx_swallow(void *exception) {
    __cxa_begin_catch(exception); /* who could throw has these */
    __cxa_end_catch();
}

/* ------------------------------------------------------------------ whose operators ---------- */

/* An operator that others forward to, with those that it forwards to itself. */
enum chain {
    NEW = 1,
    NEW_ARRAY = 2,
    NEW_ALIGNED = 4,
    NEW_ARRAY_ALIGNED = 8,
    DELETE = 16,
    DELETE_ARRAY = 32,
    DELETE_ALIGNED = 64,
    DELETE_ARRAY_ALIGNED = 128,
};
static uint8_t ours; /* the chains known to be of this file from end to end */

/* False also before at_load has run: forwarding is never wrong. */
LU_INLINE bool is_ours(enum chain chain) {
    return LU_LIKELY(LU_RELAXED(ours) & chain);
}

/* ------------------------------------------------------------------ allocate ----------------- */

/* The loop of the standard: as long as there is no memory but a new-handler, let that free
 * something, and try again. NULL when there is no handler left. */
static LU_COLD void *alloc_with_handler(size_t size, size_t alignment) {
    for (;;) {
        void *block = alignment == NO_ALIGNMENT ? lu__engine_alloc(size)
                                                : lu__alloc_aligned_checked(alignment, size);
        if (block != NULL) return block;
        new_handler_fn *handler = get_new_handler != NULL ? get_new_handler() : NULL;
        if (handler == NULL) return NULL;
        handler();
    }
}

static LU_COLD void *alloc_or_throw(size_t size, size_t alignment) {
    void *block = alloc_with_handler(size, alignment);
    if (block == NULL) throw_bad_alloc();
    return block;
}

static LU_COLD void *alloc_or_null(size_t size, size_t alignment) {
    return lu__cxx_catch_all(alloc_with_handler, size, alignment);
}

/* Alignments that are no power of two are no memory, as in libstdc++. */
static void *aligned_or_throw(size_t size, size_t alignment) {
    if (LU_UNLIKELY(!lu__is_pow2(alignment))) throw_bad_alloc();
    void *block = lu__fast_take_aligned(alignment, size);
    return LU_LIKELY(block != NULL) ? block : alloc_or_throw(size, alignment);
}

static void *aligned_or_null(size_t size, size_t alignment) {
    if (LU_UNLIKELY(!lu__is_pow2(alignment))) return NULL;
    void *block = lu__fast_take_aligned(alignment, size);
    return LU_LIKELY(block != NULL) ? block : alloc_or_null(size, alignment);
}

static void *plain_or_null(size_t size) {
    void *block = lu__fast_take(size);
    return LU_LIKELY(block != NULL) ? block : alloc_or_null(size, NO_ALIGNMENT);
}

/* ------------------------------------------------------------------ operator new ------------- */

/* new(size) */
static void *new_plain(size_t size) {
    void *block = lu__fast_take(size);
    return LU_LIKELY(block != NULL) ? block : alloc_or_throw(size, NO_ALIGNMENT);
}
OPERATOR void *_Znwm(size_t size) __attribute__((alias("new_plain")));

/* Hardened, `ours` stays 0, so that arrays pass here, and are told from others if both of the
 * program's operators for them are ours. */
static bool compare(enum chain chain) LU_COLD;
static uint8_t unhardened; /* what `ours` would be; 0 until that is known. Relaxed atomic */
static bool sees_arrays(enum chain make, enum chain end) {
    if (!lu__harden.array_pairs) return false;
    uint8_t known = __atomic_load_n(&unhardened, __ATOMIC_RELAXED);
    return known != 0 ? (known & make) && (known & end) : compare(make) && compare(end);
}

/* The same of those without an alignment, as far as it is known, for threads with such a heap. */
LU_INLINE bool short_arrays(void) {
    return LU_LIKELY(lu__short_heap != NULL) &&
           LU_LIKELY((~LU_RELAXED(unhardened) & (NEW_ARRAY | DELETE_ARRAY)) == 0);
}

static LU_COLD void *made_array(void *block) {
    if (sees_arrays(NEW_ARRAY, DELETE_ARRAY)) lu__hard_array_made(block);
    return block;
}

static LU_COLD void end_array(const void *block) {
    if (block != NULL && sees_arrays(NEW_ARRAY, DELETE_ARRAY)) lu__hard_array_ends(block);
}

/* Some of these operators are the program's, or new[] is told from new. */
static LU_COLD void *new_array_otherwise(size_t size) {
    void *block = short_arrays() ? lu__hard_new_array(size) : NULL;
    return LU_LIKELY(block != NULL) ? block : made_array(_Znwm(size));
}

/* new[](size) */
static void *new_array(size_t size) {
    return is_ours(NEW) ? new_plain(size) : new_array_otherwise(size);
}
OPERATOR void *_Znam(size_t size) __attribute__((alias("new_array")));

/* new(size, alignment) */
OPERATOR void *_ZnwmSt11align_val_t(size_t size, size_t alignment)
    __attribute__((alias("aligned_or_throw")));

/* new[](size, alignment) */
static void *new_array_aligned(size_t size, size_t alignment) {
    return is_ours(NEW_ALIGNED) ? aligned_or_throw(size, alignment)
                                : made_array(_ZnwmSt11align_val_t(size, alignment));
}
OPERATOR void *_ZnamSt11align_val_t(size_t size, size_t alignment)
    __attribute__((alias("new_array_aligned")));

/* The throwing forms as arguments of catch_all. */
static void *call_new(size_t size, size_t alignment) {
    (void)alignment;
    return _Znwm(size);
}
static void *call_new_array(size_t size, size_t alignment) {
    (void)alignment;
    return _Znam(size);
}
static void *call_new_aligned(size_t size, size_t alignment) {
    return _ZnwmSt11align_val_t(size, alignment);
}
static void *call_new_array_aligned(size_t size, size_t alignment) {
    return _ZnamSt11align_val_t(size, alignment);
}

/* new(size, nothrow) */
OPERATOR void *_ZnwmRKSt9nothrow_t(size_t size, const void *nothrow) {
    (void)nothrow;
    if (is_ours(NEW)) return plain_or_null(size);
    return lu__cxx_catch_all(call_new, size, NO_ALIGNMENT);
}

/* new[](size, nothrow) */
OPERATOR void *_ZnamRKSt9nothrow_t(size_t size, const void *nothrow) {
    (void)nothrow;
    if (is_ours(NEW_ARRAY)) return plain_or_null(size);
    return lu__cxx_catch_all(call_new_array, size, NO_ALIGNMENT);
}

/* new(size, alignment, nothrow) */
OPERATOR void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment,
                                                  const void *nothrow) {
    (void)nothrow;
    if (is_ours(NEW_ALIGNED)) return aligned_or_null(size, alignment);
    return lu__cxx_catch_all(call_new_aligned, size, alignment);
}

/* new[](size, alignment, nothrow) */
OPERATOR void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment,
                                                  const void *nothrow) {
    (void)nothrow;
    if (is_ours(NEW_ARRAY_ALIGNED)) return aligned_or_null(size, alignment);
    return lu__cxx_catch_all(call_new_array_aligned, size, alignment);
}

/* ------------------------------------------------------------------ operator delete ---------- */

static const char delete_call[] = "operator delete";

/* A sized delete whose chain is not known to be ours: for the most part it is not. */
static LU_COLD void delete_otherwise(void *block, size_t size, size_t alignment, enum chain chain);

/* delete(p) */
static void delete_plain(void *block) {
    lu__fast_free(block);
}
OPERATOR void _ZdlPv(void *block) __attribute__((alias("delete_plain")));

/* delete[](p) */
static void delete_array(void *block) {
    if (is_ours(DELETE)) return lu__fast_free(block);
    if (block != NULL && short_arrays()) return lu__hard_delete_array(block);
    end_array(block);
    _ZdlPv(block);
}
OPERATOR void _ZdaPv(void *block) __attribute__((alias("delete_array")));

/* delete(p, nothrow) */
OPERATOR void _ZdlPvRKSt9nothrow_t(void *block, const void *nothrow) {
    (void)nothrow;
    _ZdlPv(block);
}

/* delete[](p, nothrow) */
OPERATOR void _ZdaPvRKSt9nothrow_t(void *block, const void *nothrow) {
    (void)nothrow;
    _ZdaPv(block);
}

/* delete(p, size) */
OPERATOR void _ZdlPvm(void *block, size_t size) {
    if (!is_ours(DELETE)) return delete_otherwise(block, size, NO_ALIGNMENT, DELETE);
    lu__fast_free_sized(block, size, delete_call);
}

/* delete[](p, size) */
OPERATOR void _ZdaPvm(void *block, size_t size) {
    if (!is_ours(DELETE_ARRAY)) return delete_otherwise(block, size, NO_ALIGNMENT, DELETE_ARRAY);
    lu__fast_free_sized(block, size, delete_call);
}

/* delete(p, alignment) */
static void delete_aligned(void *block, size_t alignment) {
    (void)alignment;
    lu__fast_free(block);
}
OPERATOR void _ZdlPvSt11align_val_t(void *block, size_t alignment)
    __attribute__((alias("delete_aligned")));

/* delete[](p, alignment) */
static void delete_array_aligned(void *block, size_t alignment) {
    if (is_ours(DELETE_ALIGNED)) return lu__fast_free(block);
    end_array(block);
    _ZdlPvSt11align_val_t(block, alignment);
}
OPERATOR void _ZdaPvSt11align_val_t(void *block, size_t alignment)
    __attribute__((alias("delete_array_aligned")));

/* delete(p, alignment, nothrow) */
OPERATOR void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *block, size_t alignment,
                                                  const void *nothrow) {
    (void)nothrow;
    _ZdlPvSt11align_val_t(block, alignment);
}

/* delete[](p, alignment, nothrow) */
OPERATOR void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *block, size_t alignment,
                                                  const void *nothrow) {
    (void)nothrow;
    _ZdaPvSt11align_val_t(block, alignment);
}

/* delete(p, size, alignment) */
OPERATOR void _ZdlPvmSt11align_val_t(void *block, size_t size, size_t alignment) {
    if (!is_ours(DELETE_ALIGNED)) return delete_otherwise(block, size, alignment, DELETE_ALIGNED);
    lu__fast_free_aligned_sized(block, alignment, size, delete_call);
}

/* delete[](p, size, alignment) */
OPERATOR void _ZdaPvmSt11align_val_t(void *block, size_t size, size_t alignment) {
    if (!is_ours(DELETE_ARRAY_ALIGNED))
        return delete_otherwise(block, size, alignment, DELETE_ARRAY_ALIGNED);
    lu__fast_free_aligned_sized(block, alignment, size, delete_call);
}

/* ------------------------------------------------------------------ whose operators, found --- */

static LU_COLD bool compare(enum chain chain) {
    switch (chain) {
    case NEW:
        return _Znwm == new_plain;
    case NEW_ARRAY:
        return _Znam == new_array && _Znwm == new_plain;
    case NEW_ALIGNED:
        return _ZnwmSt11align_val_t == aligned_or_throw;
    case NEW_ARRAY_ALIGNED:
        return _ZnamSt11align_val_t == new_array_aligned &&
               _ZnwmSt11align_val_t == aligned_or_throw;
    case DELETE:
        return _ZdlPv == delete_plain;
    case DELETE_ARRAY:
        return _ZdaPv == delete_array && _ZdlPv == delete_plain;
    case DELETE_ALIGNED:
        return _ZdlPvSt11align_val_t == delete_aligned;
    case DELETE_ARRAY_ALIGNED:
        return _ZdaPvSt11align_val_t == delete_array_aligned &&
               _ZdlPvSt11align_val_t == delete_aligned;
    }
    return false;
}

static void delete_otherwise(void *block, size_t size, size_t alignment, enum chain chain) {
    if (chain == DELETE_ARRAY && block != NULL && short_arrays() &&
        lu__hard_free_sized(block, size, true)) {
        return;
    }
    if (compare(chain)) {
        if (chain == DELETE_ARRAY || chain == DELETE_ARRAY_ALIGNED) end_array(block);
        return lu__engine_free_sized(block, alignment, size, delete_call);
    }
    if (chain == DELETE) return _ZdlPv(block);
    if (chain == DELETE_ARRAY) return _ZdaPv(block);
    if (chain == DELETE_ALIGNED) return _ZdlPvSt11align_val_t(block, alignment);
    _ZdaPvSt11align_val_t(block, alignment);
}

__attribute__((constructor)) static void at_load(void) {
    unsigned found = 0;
    lu__engine_see_options(); /* no block may have been asked for yet */
    for (unsigned chain = NEW; chain <= DELETE_ARRAY_ALIGNED; chain *= 2) {
        if (compare((enum chain)chain)) found |= chain;
    }
    __atomic_store_n(lu__harden.array_pairs ? &unhardened : &ours, (uint8_t)found,
                     __ATOMIC_RELAXED);
}

#endif
