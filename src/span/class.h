/* class.h - size classes: sizes, lookup, and the shape of their spans. See class.c for the rule. */
#ifndef LU_CLASS_H
#define LU_CLASS_H

#include "base/base.h"

#define LU_CLASSES 81
#define LU_SLICE_SHIFT 16 /* see span.h */
#define LU_SLICE ((size_t)1 << LU_SLICE_SHIFT)
#define LU_SMALL_MAX ((size_t)1024)        /* classes by lu__class_small up to here  */
#define LU_CLASS_BYTES_MAX ((size_t)65536) /* classes by lu__class_mid up to here    */

extern const uint32_t lu__class_size[LU_CLASSES] LU_HIDDEN;
extern const uint32_t lu__class_inverse[LU_CLASSES] LU_HIDDEN;
extern const uint8_t lu__class_small[LU_SMALL_MAX / 8 + 1] LU_HIDDEN;
extern const uint8_t lu__class_mid[LU_CLASS_BYTES_MAX / 128 + 1] LU_HIDDEN;

/* Smallest class whose blocks hold `size` bytes; size <= LU_CLASS_BYTES_MAX. */
LU_INLINE unsigned lu__class_of(size_t size) {
    return size <= LU_SMALL_MAX ? lu__class_small[(size + 7) >> 3]
                                : lu__class_mid[(size + 127) >> 7];
}

/* Slices in a span of class `c`: as many as hold two blocks. The rest at the end is never touched,
 * and frees of blocks in a span's first slice are the fast ones. */
LU_INLINE uint32_t lu__class_slices(unsigned c) {
    return lu__class_size[c] <= LU_SLICE / 2 ? 1 : 2;
}

/* Smallest class that holds `size` bytes and whose blocks all lie on multiples of `align`, a power
 * of two <= LU_CLASS_BYTES_MAX; LU_CLASSES if there is none. Spans start on slice boundaries, so a
 * class serves an alignment exactly if its size is a multiple of it. */
LU_INLINE unsigned lu__class_of_aligned(size_t align, size_t size) {
    if (size > LU_CLASS_BYTES_MAX || align > LU_CLASS_BYTES_MAX) return LU_CLASSES;
    unsigned c = lu__class_of(LU_MAX(size, align));
    while (lu__class_size[c] & (align - 1)) c++; /* ends at the next power of two */
    return c;
}

#endif
