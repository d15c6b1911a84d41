/*
 * emergency.c - blocks for a signal handler that interrupted its own thread inside the allocator.
 *
 * Such a handler must not wait for a lock that its own thread holds, nor see structures that are
 * half changed. (malloc in a signal handler is outside the standards, but a child forked in one
 * often allocates before it calls exec.) It gets memory from regions of its own:
 *
 *     region  | size | block ...... | size | block ... |    free ->      | end
 *
 * One atomic addition takes a block; a full region is followed by a new one, published by
 * compare-and-swap. Freeing does nothing: the memory is lost, at most once for each such call.
 */
#include "engine/emergency.h"

#include "os/os.h"

#define REGIONS 64
#define REGION_LEAST (256 * LU_KIB)
#define HEADER 16
#define FIRST 64 /* behind the region's own description */

struct emergency_region {
    char *base;  /* atomic; NULL: not there yet */
    size_t size; /* set before base             */
    size_t used; /* atomic; may run past size   */
};
static struct emergency_region *emergency_regions[REGIONS]; /* each stands in its own memory */

static struct emergency_region *region_make(size_t need) {
    size_t size = lu__align_up(LU_MAX(need + LU_OS_PAGE, REGION_LEAST), LU_OS_PAGE);
    void *memory;
    if (size < need || lu__os_map(size, LU_OS_PAGE, &memory) != 0) return NULL;
    struct emergency_region *region = memory;
    region->base = memory;
    region->size = size;
    region->used = FIRST;
    return region;
}

static void *take(struct emergency_region *region, size_t align, size_t size) {
    size_t need = size + HEADER + align;
    size_t at = __atomic_load_n(&region->used, __ATOMIC_RELAXED);
    /* Nothing is added for what cannot fit, or `used` would come round to blocks that are live. */
    if (at > region->size || region->size - at < need) return NULL;
    at = __atomic_fetch_add(&region->used, need, __ATOMIC_RELAXED);
    if (at > region->size || region->size - at < need) return NULL;
    uintptr_t block = lu__align_up((uintptr_t)region->base + at + HEADER, align);
    *(size_t *)(block - HEADER) = size;
    return (void *)block;
}

void *lu__emergency_alloc(size_t align, size_t size) {
    size = lu__align_up(LU_MAX(size, 1), 16);
    align = LU_MAX(align, 16);
    if (size > (size_t)PTRDIFF_MAX || align > (size_t)PTRDIFF_MAX) return NULL;
    for (size_t i = 0; i < REGIONS; i++) {
        struct emergency_region *region = __atomic_load_n(&emergency_regions[i], __ATOMIC_ACQUIRE);
        if (region == NULL) {
            struct emergency_region *made = region_make(size + HEADER + align);
            if (made == NULL) return NULL;
            if (__atomic_compare_exchange_n(&emergency_regions[i], &region, made, false,
                                            __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
                region = made;
            } else {
                lu__os_unmap(made, made->size);
            }
        }
        void *block = take(region, align, size);
        if (block != NULL) return block;
    }
    return NULL;
}

size_t lu__emergency_usable(const void *block) {
    for (size_t i = 0; i < REGIONS; i++) {
        const struct emergency_region *region = __atomic_load_n(&emergency_regions[i],
                                                                __ATOMIC_ACQUIRE);
        if (region == NULL) return 0;
        size_t at = (uintptr_t)block - (uintptr_t)region->base;
        if (at < region->size) {
            if (at < FIRST + HEADER) return 0; /* no block begins there */
            return *(const size_t *)((uintptr_t)block - HEADER);
        }
    }
    return 0;
}
