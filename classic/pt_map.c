/*
 * pt_map.c - chunks in mappings of their own, and the threshold from which on they are used.
 *
 * Source: Doug Lea's malloc 2.7 (2000); the moving threshold is Valery Reznic's, Ulrich Drepper's
 * and Jakub Jelinek's of glibc 2.5 (2006).
 *
 *     | lead | prev_size = lead | size | M | payload …                     |
 *     start                                                     start + lead + size: whole pages
 *
 *     lead    0, or more if the payload has to be aligned; also in the first word of the mapping,
 *             where without a lead it is prev_size itself
 *
 * No chunk follows, so the last 8 bytes are not lent and the overhead is 16. A request of 128 KiB
 * takes 132. What is freed goes back at once, and its pages with it: the next request pays for a
 * system call and a page fault for each page. A program that does this over and over is better off
 * without, so when a mapped chunk of up to 32 MiB is freed the threshold rises to its size, and the
 * trim threshold to twice that: the next one of this size comes from the heap. It never sinks, and
 * it stays where it is if the program set any of the three figures itself.
 *
 * glibc maps only what its top is too small for; here nothing from the threshold up is cut from the
 * top, so that the threshold is what the manual says.
 */
#include "classic/pt.h"

#define THRESHOLD_MOST (32 * LU_MIB)

struct pt_chunk *lu__pt_map(struct pt *pt, size_t bytes, size_t align) {
    struct lu__area *area = &pt->base.area;
    size_t lead = align > LU_CHUNK_ALIGN ? align - PT_HEADER : 0;
    size_t total = lu__align_up(lead + bytes + LU_CHUNK_OVERHEAD, LU_OS_PAGE);
    void *start = lu__area_map(area, total, align);
    if (start == NULL) return NULL;
    size_t spare = lu__align_down(lead, LU_OS_PAGE);
    if (spare != 0) {
        lu__area_unmap(area, start, spare);
        start = (void *)((uintptr_t)start + spare);
        lead -= spare;
        total -= spare;
    }
    struct pt_chunk *chunk = (struct pt_chunk *)((uintptr_t)start + lead);
    *(size_t *)start = lead;
    chunk->prev_size = lead;
    lu__pt_set_head(chunk, (total - lead) | PT_M);
    return chunk;
}

/* A mapped chunk of `size` was freed. */
static void adapt(struct pt *pt, size_t size) {
    size_t threshold = __atomic_load_n(&pt->mmap_threshold, __ATOMIC_RELAXED);
    if (__atomic_load_n(&pt->fixed_thresholds, __ATOMIC_RELAXED)) return;
    if (size <= threshold || size > THRESHOLD_MOST) return;
    __atomic_store_n(&pt->mmap_threshold, size, __ATOMIC_RELAXED);
    __atomic_store_n(&pt->trim_threshold, 2 * size, __ATOMIC_RELAXED);
}

static bool is_sound(const struct pt_chunk *chunk) {
    uintptr_t start = (uintptr_t)chunk - chunk->prev_size;
    return chunk->prev_size <= (uintptr_t)chunk && start % LU_OS_PAGE == 0 &&
           (lu__pt_size(chunk) + chunk->prev_size) % LU_OS_PAGE == 0;
}

void lu__pt_unmap(struct pt *pt, struct pt_chunk *chunk) {
    size_t size = lu__pt_size(chunk), lead = chunk->prev_size;
    if (!is_sound(chunk)) {
        lu__classic_misuse(&pt->base, "munmap_chunk(): invalid pointer", lu__pt_payload(chunk));
        return;
    }
    adapt(pt, size);
    lu__area_unmap(&pt->base.area, (void *)((uintptr_t)chunk - lead), lead + size);
}

struct pt_chunk *lu__pt_remap(struct pt *pt, struct pt_chunk *chunk, size_t bytes) {
    size_t size = lu__pt_size(chunk), lead = chunk->prev_size;
    if (!is_sound(chunk)) {
        lu__classic_misuse(&pt->base, "mremap_chunk(): invalid pointer", lu__pt_payload(chunk));
        return NULL;
    }
    size_t total = lu__align_up(lead + bytes + LU_CHUNK_OVERHEAD, LU_OS_PAGE);
    if (total == lead + size) return chunk;
    void *start = lu__area_remap(&pt->base.area, (void *)((uintptr_t)chunk - lead), lead + size,
                                 total, true);
    if (start == NULL) return NULL;
    chunk = (struct pt_chunk *)((uintptr_t)start + lead);
    lu__pt_set_head(chunk, (total - lead) | PT_M);
    return chunk;
}

struct pt_chunk *lu__pt_mapped_chunk(const struct lu__mapping *mapping) {
    size_t lead = *(const size_t *)mapping->start;
    if (lead % LU_CHUNK_ALIGN != 0 || lead > mapping->bytes - PT_LEAST) return NULL;
    struct pt_chunk *chunk = (struct pt_chunk *)(mapping->start + lead);
    if (chunk->prev_size != lead) return NULL;
    return lu__pt_head(chunk) == ((mapping->bytes - lead) | PT_M) ? chunk : NULL;
}
