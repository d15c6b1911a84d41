/*
 * malloc.c - the malloc(3) family, under lu_ names and under its own.
 *
 *     program --> malloc, __libc_malloc, lu_malloc      one function, several names (LU_INTERPOSE)
 *                        |
 *                        v
 *     this file: the rules of C, POSIX and glibc        arguments, errno, zero sizes, overflow
 *                        |
 *                        v
 *     engine/fast.h, engine/engine.h                        memory
 *
 * All names of glibc's malloc.o are defined in this one object file, so that a static link takes
 * either all of ours or all of libc's, never half of each. The functions hold no state and no lock;
 * each may be called whenever the engine may.
 *
 * Where manuals leave a choice:
 *   - size 0 gives a block; realloc(p, 0) frees p and gives NULL with errno as it was (glibc).
 *   - aligned_alloc with an alignment that is no power of two: NULL and EINVAL, as C17, the glibc
 *     manual and glibc since 2.38; older glibc rounded it up.
 *   - memalign rounds such an alignment up to the next power of two, and gives EINVAL where there
 *     is none, as every glibc does.
 *   - posix_memalign leaves errno alone, also where glibc's sets it to ENOMEM.
 *   - pvalloc(0) is valloc(0); malloc_trim ignores its pad, there is no top to leave it at.
 *   - malloc_info with options gives -1 and EINVAL, as its manual page; glibc returns EINVAL
 *     itself.
 */
#include "api/surface.h"
#include "base/base.h"
#include "engine/engine.h"
#include "lucid/lucid.h"
#include "os/os.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>

#include "engine/fast.h"

__attribute__((used)) static void (*const at_load)(void) = lu__at_load;

static LU_COLD void *fail(int error) {
    errno = error;
    return NULL;
}

/* ------------------------------------------------------------------ plain -------------------- */

LU_HOT void *lu_malloc(size_t size) {
    return lu__fast_alloc(size);
}

void *lu_calloc(size_t count, size_t size) {
    size_t total;
    if (LU_UNLIKELY(__builtin_mul_overflow(count, size, &total))) return fail(ENOMEM);
    return lu__fast_alloc_zeroed(total);
}

LU_HOT void lu_free(void *block) {
    lu__fast_free(block);
}

void *lu_realloc(void *block, size_t size) {
    if (LU_UNLIKELY(block == NULL)) return lu__fast_alloc(size);
    if (LU_UNLIKELY(size == 0)) {
        lu__engine_free(block);
        return NULL;
    }
    return lu__fast_resize(block, size);
}

void *lu_reallocarray(void *block, size_t count, size_t size) {
    size_t total;
    if (LU_UNLIKELY(__builtin_mul_overflow(count, size, &total))) return fail(ENOMEM);
    return lu_realloc(block, total);
}

void lu_free_sized(void *block, size_t size) {
    lu__fast_free_sized(block, size, "free_sized");
}

void lu_free_aligned_sized(void *block, size_t alignment, size_t size) {
    lu__fast_free_aligned_sized(block, alignment, size, "free_aligned_sized");
}

/* ------------------------------------------------------------------ aligned ------------------ */

void *lu__alloc_aligned_checked(size_t alignment, size_t size) {
    if (LU_UNLIKELY(alignment > LU_ENGINE_MAX || size > LU_ENGINE_MAX - alignment)) {
        return fail(ENOMEM);
    }
    return lu__engine_alloc_aligned(alignment, size);
}

static inline void *alloc_aligned(size_t alignment, size_t size) {
    void *block = lu__fast_take_aligned(alignment, size);
    return LU_LIKELY(block != NULL) ? block : lu__alloc_aligned_checked(alignment, size);
}

void *lu_aligned_alloc(size_t alignment, size_t size) {
    if (LU_UNLIKELY(!lu__is_pow2(alignment))) return fail(EINVAL);
    return alloc_aligned(alignment, size);
}

static LU_COLD void *memalign_rounded(size_t alignment, size_t size) {
    if (alignment > SIZE_MAX / 2 + 1) return fail(EINVAL);
    alignment = alignment == 0 ? 1 : (size_t)2 << lu__log2(alignment);
    return lu__alloc_aligned_checked(alignment, size);
}

void *lu_memalign(size_t alignment, size_t size) {
    if (LU_UNLIKELY(!lu__is_pow2(alignment))) return memalign_rounded(alignment, size);
    return alloc_aligned(alignment, size);
}

/* posix_memalign may not touch errno. */
static LU_COLD int memalign_silently(void **out, size_t alignment, size_t size) {
    int saved = errno;
    void *block = lu__alloc_aligned_checked(alignment, size);
    if (block == NULL) {
        errno = saved;
        return ENOMEM;
    }
    *out = block;
    return 0;
}

int lu_posix_memalign(void **out, size_t alignment, size_t size) {
    if (LU_UNLIKELY(!lu__is_pow2(alignment) || alignment % sizeof(void *) != 0)) return EINVAL;
    void *block = lu__fast_take_aligned(alignment, size);
    if (LU_UNLIKELY(block == NULL)) return memalign_silently(out, alignment, size);
    *out = block;
    return 0;
}

void *lu_valloc(size_t size) {
    return alloc_aligned(LU_OS_PAGE, size);
}

void *lu_pvalloc(size_t size) {
    if (LU_UNLIKELY(size > LU_ENGINE_MAX)) return fail(ENOMEM);
    return alloc_aligned(LU_OS_PAGE, lu__align_up(size, LU_OS_PAGE));
}

/* ------------------------------------------------------------------ questions ---------------- */

size_t lu_usable_size(const void *block) {
    return block != NULL ? lu__fast_usable(block, "malloc_usable_size") : 0;
}

size_t lu_good_size(size_t size) {
    return lu__engine_good_size(size);
}

bool lu_owns(const void *address) {
    return lu__engine_owns(address);
}

/* ------------------------------------------------------------------ the names of libc -------- */

#if LU_INTERPOSE

/* `name` is one more exported name of `target`. GCC wants the attributes of the target repeated;
 * Clang does not know how to. */
#if __has_attribute(copy)
#define ALIAS(target) __attribute__((alias(#target), visibility("default"), copy(target)))
#else
#define ALIAS(target) __attribute__((alias(#target), visibility("default")))
#endif

void *malloc(size_t size) ALIAS(lu_malloc);
void *calloc(size_t count, size_t size) ALIAS(lu_calloc);
void *realloc(void *block, size_t size) ALIAS(lu_realloc);
void *reallocarray(void *block, size_t count, size_t size) ALIAS(lu_reallocarray);
void free(void *block) ALIAS(lu_free);
void cfree(void *block) ALIAS(lu_free);
void free_sized(void *block, size_t size) ALIAS(lu_free_sized);
void free_aligned_sized(void *block, size_t alignment, size_t size) ALIAS(lu_free_aligned_sized);
void *aligned_alloc(size_t alignment, size_t size) ALIAS(lu_aligned_alloc);
void *memalign(size_t alignment, size_t size) ALIAS(lu_memalign);
int posix_memalign(void **out, size_t alignment, size_t size) ALIAS(lu_posix_memalign);
void *valloc(size_t size) ALIAS(lu_valloc);
void *pvalloc(size_t size) ALIAS(lu_pvalloc);

LU_API size_t malloc_usable_size(void *block) {
    return lu_usable_size(block);
}

/* What only glibc has. Elsewhere such names may be libc's own, with another meaning. */
#ifdef __GLIBC__

void *__libc_malloc(size_t size) ALIAS(lu_malloc);
void *__libc_calloc(size_t count, size_t size) ALIAS(lu_calloc);
void *__libc_realloc(void *block, size_t size) ALIAS(lu_realloc);
void *__libc_reallocarray(void *block, size_t count, size_t size) ALIAS(lu_reallocarray);
void __libc_free(void *block) ALIAS(lu_free);
void __libc_cfree(void *block) ALIAS(lu_free);
void *__libc_memalign(size_t alignment, size_t size) ALIAS(lu_memalign);
void *__libc_valloc(size_t size) ALIAS(lu_valloc);
void *__libc_pvalloc(size_t size) ALIAS(lu_pvalloc);
int __posix_memalign(void **out, size_t alignment, size_t size) ALIAS(lu_posix_memalign);

LU_API int malloc_trim(size_t pad) {
    (void)pad;
    return lu__engine_purge() > 0;
}

LU_API int mallopt(int parameter, int value) {
    return lu__mallopt(parameter, value);
}
int __libc_mallopt(int parameter, int value) ALIAS(mallopt);

LU_API struct mallinfo2 mallinfo2(void) {
    return lu__mallinfo2();
}

LU_API struct mallinfo __libc_mallinfo(void); /* libc's header calls the other name deprecated */
LU_API struct mallinfo __libc_mallinfo(void) {
    return lu__mallinfo();
}
struct mallinfo mallinfo(void) ALIAS(__libc_mallinfo);

LU_API void malloc_stats(void) {
    lu__malloc_stats();
}

LU_API int malloc_info(int options, FILE *stream) {
    return lu__malloc_info(options, stream);
}

#endif
#endif
