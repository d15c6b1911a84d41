/* base.h - what every file of the library may use: attributes, bit tricks, assertion tiers. */
#ifndef LU_BASE_H
#define LU_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A store that becomes visible after all earlier ones: for readers that hold no lock, and for the
 * child of fork, which sees each thread as it was between two instructions. */
#define LU_SET(field, value) __atomic_store_n(&(field), value, __ATOMIC_RELEASE)

#define LU_LIKELY(x) __builtin_expect(!!(x), 1)
#define LU_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define LU_COLD __attribute__((cold, noinline))
/* The function begins at a cache line, so that its shortest paths touch the fewest lines. */
#define LU_HOT __attribute__((hot, aligned(64)))
#define LU_NOINLINE __attribute__((noinline))
/* For data that only this library reads: an access takes one instruction less than through the
 * global offset table. */
#define LU_HIDDEN __attribute__((visibility("hidden")))
#define LU_INLINE static inline __attribute__((always_inline, unused))
#define LU_MUST_CHECK __attribute__((warn_unused_result))
#define LU_COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))
#define LU_MIN(a, b) ((a) < (b) ? (a) : (b))
#define LU_MAX(a, b) ((a) > (b) ? (a) : (b))

#define LU_KIB ((size_t)1 << 10)
#define LU_MIB ((size_t)1 << 20)
#define LU_GIB ((size_t)1 << 30)
#define LU_CACHE_LINE 64

/* Three tiers of assertion. Misuse and corruption are always checked, by lu__violation (see
 * violation.h). LU_ASSERT is for mistakes in lucid itself, in debug builds; LU_ASSERT_SLOW walks
 * whole structures. Build with -DLU_DEBUG=1 or =2. */
#ifndef LU_DEBUG
#define LU_DEBUG 0
#endif
__attribute__((noreturn, cold)) void lu__assert_failed(const char *what, const char *file,
                                                       int line);
#if LU_DEBUG >= 1
#define LU_ASSERT(x) ((x) ? (void)0 : lu__assert_failed(#x, __FILE__, __LINE__))
#else
#define LU_ASSERT(x) ((void)sizeof(x))
#endif
/* Counts the rounds of loops that must not take more rounds in a larger heap; tests read it. */
#if LU_DEBUG >= 1
extern size_t lu__steps;
#define LU_STEP() ((void)__atomic_fetch_add(&lu__steps, 1, __ATOMIC_RELAXED))
#else
#define LU_STEP() ((void)0)
#endif
#if LU_DEBUG >= 2
#define LU_ASSERT_SLOW(x) LU_ASSERT(x)
#else
#define LU_ASSERT_SLOW(x) ((void)sizeof(x))
#endif

LU_INLINE bool lu__is_pow2(size_t x) {
    return x != 0 && (x & (x - 1)) == 0;
}
/* x rounded up to a multiple of the power of two `align`; wraps to a small value on overflow. */
LU_INLINE size_t lu__align_up(size_t x, size_t align) {
    return (x + align - 1) & ~(align - 1);
}
LU_INLINE size_t lu__align_down(size_t x, size_t align) {
    return x & ~(align - 1);
}
/* Index of the highest set bit; x is not 0. */
LU_INLINE unsigned lu__log2(size_t x) {
    return 63u - (unsigned)__builtin_clzl(x);
}

/* Built with the thread sanitizer. */
#if defined(__has_feature)
#define LU_TSAN (__has_feature(thread_sanitizer)) /* clang */
#elif defined(__SANITIZE_THREAD__)
#define LU_TSAN 1
#else
#define LU_TSAN 0
#endif

#endif
