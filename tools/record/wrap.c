/*
 * wrap.c - malloc and its kin: each calls the allocator behind and records what came of it.
 *
 *     program ──▶ malloc (here) ──▶ malloc of the next library in load order: an allocator that is
 *                     │             preloaded behind this one, else libc
 *                     ▼
 *                 writer.c          malloc: after it happened; free: before; realloc: one event
 *                                   with the times of both (docs/TRACE.md, "Order")
 *
 * `depth` counts the calls under way in this thread: what an allocator calls of its own names while
 * it serves one is no call of the program. Addresses of the next functions are found at the first
 * call, by dlsym, which may allocate in turn; that is served from `early`, a few KiB that are never
 * given back.
 *
 * A call that fails is no event. Nothing here changes errno beyond what the allocator does.
 */
#include "record/record.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <string.h>
#include <unistd.h>

#include "base/format.h"
#include "os/os.h"

#define SITE __builtin_return_address(0)

static struct {
    void *(*malloc)(size_t size);
    void *(*calloc)(size_t count, size_t size);
    void *(*realloc)(void *block, size_t size);
    void (*free)(void *block);
    void *(*aligned_alloc)(size_t alignment, size_t size);
    void *(*memalign)(size_t alignment, size_t size);
    int (*posix_memalign)(void **out, size_t alignment, size_t size);
    void *(*valloc)(size_t size);
    void *(*pvalloc)(size_t size);
    void (*free_sized)(void *block, size_t size);
    void (*free_aligned_sized)(void *block, size_t alignment, size_t size);
} next;

enum { NOT_READY, IN_PROGRESS, READY };
static int readiness; /* atomic: who has READY (acquire) sees `next` */

/* ------------------------------------------------------------------ before all that ---------- */

static struct {
    _Alignas(16) char memory[65536];
    size_t used; /* atomic */
} early;

static LU_COLD void *early_alloc(size_t size) {
    if (size > sizeof early.memory) return NULL;
    size_t bytes = lu__align_up(size, 16) + 16;
    size_t from = __atomic_fetch_add(&early.used, bytes, __ATOMIC_RELAXED);
    if (from > sizeof early.memory || bytes > sizeof early.memory - from) {
        errno = ENOMEM;
        return NULL;
    }
    memcpy(early.memory + from, &size, sizeof size);
    return early.memory + from + 16;
}

LU_INLINE bool is_early(const void *block) {
    return (uintptr_t)block - (uintptr_t)early.memory < sizeof early.memory;
}

static size_t early_bytes(const void *block) {
    size_t size;
    memcpy(&size, (const char *)block - 16, sizeof size);
    return size;
}

/* ------------------------------------------------------------------ what is behind ----------- */

#define FIND(name) next.name = (__typeof__(next.name))dlsym(RTLD_NEXT, #name)

static void find_next(void) {
    FIND(malloc);
    FIND(calloc);
    FIND(realloc);
    FIND(free);
    FIND(aligned_alloc);
    FIND(memalign);
    FIND(posix_memalign);
    FIND(valloc);
    FIND(pvalloc);
    FIND(free_sized);
    FIND(free_aligned_sized);
    if (next.malloc == NULL || next.calloc == NULL || next.realloc == NULL || next.free == NULL) {
        lu__print(STDERR_FILENO, "lucid: nothing to record: there is no malloc behind\n");
        _exit(125);
    }
}

static LU_COLD bool prepare_slow(void) {
    int expected = NOT_READY;
    if (!__atomic_compare_exchange_n(&readiness, &expected, IN_PROGRESS, false, __ATOMIC_ACQUIRE,
                                     __ATOMIC_ACQUIRE))
        return expected == READY;
    int kept = errno;
    find_next();
    record_file_start();
    record_writer_init();
    errno = kept;
    __atomic_store_n(&readiness, READY, __ATOMIC_RELEASE);
    return true;
}

/* False while the first call is still looking. */
LU_INLINE bool is_ready(void) {
    return LU_LIKELY(__atomic_load_n(&readiness, __ATOMIC_ACQUIRE) == READY) || prepare_slow();
}

void record_prepare(void) {
    (void)is_ready();
}

__attribute__((constructor)) static void at_load(void) {
    record_prepare();
}

__attribute__((destructor)) static void at_exit(void) {
    record_file_at_exit(record_now());
}

/* ------------------------------------------------------------------ plain -------------------- */

/* Call and count the depth around it; true if it was the program's own call. */
#define CALL(result, call) \
    (record_me.depth++, (result) = (call), --record_me.depth == 0 && (result) != NULL)

RECORD_EXPORT void *malloc(size_t size) {
    void *block;
    if (LU_UNLIKELY(!is_ready())) return early_alloc(size);
    if (CALL(block, next.malloc(size))) record_alloc(TRACE_TAG_MALLOC, block, size, 0, SITE);
    return block;
}

RECORD_EXPORT void *calloc(size_t count, size_t size) {
    void *block;
    if (LU_UNLIKELY(!is_ready())) return early_alloc(count * size); /* ours, and never used */
    if (CALL(block, next.calloc(count, size)))
        record_alloc(TRACE_TAG_CALLOC, block, count * size, 0, SITE);
    return block;
}

/* True if the block is of the allocator behind, and `free` is now recorded. */
LU_INLINE bool free_begins(const void *block, const void *site) {
    if (block == NULL || LU_UNLIKELY(is_early(block)) || LU_UNLIKELY(!is_ready())) return false;
    if (record_me.depth == 0 && block != record_me.deleted) record_free(block, site);
    return true;
}

RECORD_EXPORT void free(void *block) {
    if (!free_begins(block, SITE)) return;
    record_me.depth++;
    next.free(block);
    record_me.depth--;
}

RECORD_EXPORT void free_sized(void *block, size_t size) {
    if (!free_begins(block, SITE)) return;
    record_me.depth++;
    if (next.free_sized != NULL)
        next.free_sized(block, size);
    else
        next.free(block);
    record_me.depth--;
}

RECORD_EXPORT void free_aligned_sized(void *block, size_t alignment, size_t size) {
    if (!free_begins(block, SITE)) return;
    record_me.depth++;
    if (next.free_aligned_sized != NULL)
        next.free_aligned_sized(block, alignment, size);
    else
        next.free(block);
    record_me.depth--;
}

static void *resize(void *block, size_t size, const void *site) {
    void *larger;
    if (block == NULL || LU_UNLIKELY(is_early(block)) || LU_UNLIKELY(!is_ready())) {
        if (!is_ready())
            larger = early_alloc(size);
        else if (CALL(larger, next.malloc(size)))
            record_alloc(TRACE_TAG_MALLOC, larger, size, 0, site);
        if (larger != NULL && block != NULL)
            memcpy(larger, block, LU_MIN(size, early_bytes(block)));
        return larger;
    }
    if (size == 0 && record_me.depth == 0) {
        /* A free in most; where it gives a block, there is one event too many. */
        record_free(block, site);
        if (CALL(larger, next.realloc(block, 0)))
            record_alloc(TRACE_TAG_MALLOC, larger, 0, 0, site);
        return larger;
    }
    uint64_t before = record_now();
    if (CALL(larger, next.realloc(block, size))) record_resize(block, larger, size, before, site);
    return larger;
}

RECORD_EXPORT void *realloc(void *block, size_t size) {
    return resize(block, size, SITE);
}

RECORD_EXPORT void *reallocarray(void *block, size_t count, size_t size) {
    size_t total;
    if (LU_UNLIKELY(__builtin_mul_overflow(count, size, &total))) {
        errno = ENOMEM;
        return NULL;
    }
    return resize(block, total, SITE);
}

/* ------------------------------------------------------------------ aligned ------------------ */

static void note_aligned(const void *block, size_t alignment, size_t size, const void *site) {
    if (!lu__is_pow2(alignment)) alignment = alignment == 0 ? 1 : (size_t)2 << lu__log2(alignment);
    record_alloc(TRACE_TAG_ALIGNED, block, size, alignment, site);
}

/* `f` is NULL where the allocator behind and libc have none. */
#define ALIGNED(f, alignment, size, ...)                                              \
    void *block;                                                                      \
    if (LU_UNLIKELY(!is_ready() || next.f == NULL)) {                                 \
        errno = ENOMEM;                                                               \
        return NULL;                                                                  \
    }                                                                                 \
    if (CALL(block, next.f(__VA_ARGS__))) note_aligned(block, alignment, size, SITE); \
    return block

RECORD_EXPORT void *aligned_alloc(size_t alignment, size_t size) {
    ALIGNED(aligned_alloc, alignment, size, alignment, size);
}

RECORD_EXPORT void *memalign(size_t alignment, size_t size) {
    ALIGNED(memalign, alignment, size, alignment, size);
}

RECORD_EXPORT void *valloc(size_t size) {
    ALIGNED(valloc, LU_OS_PAGE, size, size);
}

RECORD_EXPORT void *pvalloc(size_t size) {
    ALIGNED(pvalloc, LU_OS_PAGE, lu__align_up(size, LU_OS_PAGE), size);
}

RECORD_EXPORT int posix_memalign(void **out, size_t alignment, size_t size) {
    if (LU_UNLIKELY(!is_ready() || next.posix_memalign == NULL)) return ENOMEM;
    record_me.depth++;
    int error = next.posix_memalign(out, alignment, size);
    if (--record_me.depth == 0 && error == 0 && *out != NULL)
        note_aligned(*out, alignment, size, SITE);
    return error;
}
