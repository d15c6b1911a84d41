/*
 * dl_map.c - large chunks of the policy dl that have a mapping each.
 *
 *     [foot_before: 0 | head: size, no flags | payload …                      ] = the mapping
 *     [- | lead: bytes to the chunk | … | foot_before: lead | head | payload …]   (aligned)
 *
 * A request at or above mmap_threshold for which the space has no free chunk goes straight to the
 * system, and back to it when it is freed: so a block of megabytes never pins the top, leaves no
 * hole in the heap, and grows by moving pages (mremap) instead of bytes. It costs up to a page of
 * rounding, two system calls and the faults of all its pages each time.
 *
 * Such a chunk is known by having neither of the flags of its head. It ends with its mapping: there
 * is no next chunk whose foot could be used, so it costs 16 bytes. For an alignment above 16 the
 * chunk begins later in its mapping; then the two words at the start have the distance, so that a
 * walk finds it, and foot_before has it again, so that free finds the mapping.
 *
 * One thread at a time for each heap, so the area's table may be read without its lock.
 */
#include "classic/dl.h"

/* A mapping that is this much too large is not worth a system call. */
#define SPARE_BYTES (2 * LU_DL_GRANULE)

/* The mapping that the byte is in; NULL: none. */
static const struct lu__mapping *mapping_of(const struct lu__area *area, const void *byte) {
    uintptr_t at = (uintptr_t)byte;
    size_t low = 0, high = area->mapping_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct lu__mapping *mapping = &area->mappings[middle];
        if (at < mapping->start) {
            high = middle;
        } else if (at - mapping->start >= mapping->bytes) {
            low = middle + 1;
        } else {
            return mapping;
        }
    }
    return NULL;
}

/* Write the headers of a mapping with its payload there. */
static void put_headers(const struct lu__mapping *mapping, void *payload) {
    struct lu__chunk *chunk = lu__chunk_of(payload), *start = (struct lu__chunk *)mapping->start;
    size_t lead = (uintptr_t)chunk - mapping->start;
    if (lead != 0) {
        start->foot_before = 0;
        start->head = lead;
    }
    chunk->foot_before = lead;
    chunk->head = mapping->bytes - lead;
}

struct lu__chunk *lu__dl_map_chunk(const struct lu__mapping *mapping) {
    struct lu__chunk *chunk = (struct lu__chunk *)mapping->start;
    size_t size = chunk->head;
    if (size % LU_CHUNK_ALIGN != 0 || chunk->foot_before != 0) return NULL;
    if (size == mapping->bytes) return chunk;
    if (size == 0 || size > mapping->bytes - LU_CHUNK_LEAST) return NULL;
    chunk = lu__chunk_above(chunk, size);
    return chunk->foot_before == size && chunk->head == mapping->bytes - size ? chunk : NULL;
}

bool lu__dl_map_is(const struct lu__dl *dl, const struct lu__chunk *chunk) {
    const struct lu__mapping *mapping = mapping_of(&dl->classic.area, chunk);
    return mapping != NULL && lu__dl_map_chunk(mapping) == chunk;
}

void *lu__dl_map_alloc(struct lu__dl *dl, size_t align, size_t bytes) {
    struct lu__area *area = &dl->classic.area;
    size_t page = LU_OS_PAGE;
    size_t slack = align <= page ? LU_MAX(align, LU_CHUNK_HEADER) : align + page;
    size_t most = lu__align_up(bytes + slack, page);
    void *at = lu__area_map(area, most, page);
    if (at == NULL) return NULL;
    uintptr_t start = (uintptr_t)at;
    uintptr_t payload = lu__align_up(start + LU_CHUNK_HEADER, align);
    /* Whole pages before the header and behind the payload go back. */
    uintptr_t from = lu__align_down(payload - LU_CHUNK_HEADER, page);
    uintptr_t to = lu__align_up(payload + bytes, page);
    if (to < start + most) lu__area_unmap(area, (void *)to, start + most - to);
    if (from > start) lu__area_unmap(area, at, from - start);
    put_headers(&(struct lu__mapping){from, to - from}, (void *)payload);
    return (void *)payload;
}

void lu__dl_map_free(struct lu__dl *dl, struct lu__chunk *chunk) {
    struct lu__chunk *start = lu__chunk_below(chunk, chunk->foot_before);
    lu__area_unmap(&dl->classic.area, start, lu__chunk_size(chunk) + chunk->foot_before);
}

void *lu__dl_map_resize(struct lu__dl *dl, struct lu__chunk *chunk, size_t bytes) {
    struct lu__area *area = &dl->classic.area;
    size_t lead = chunk->foot_before, old = lu__chunk_size(chunk) + lead;
    size_t now = lu__align_up(lead + LU_CHUNK_HEADER + bytes, LU_OS_PAGE);
    if (lu__chunk_bytes_for(bytes) < LU_DL_LARGE) return NULL; /* not for a mapping */
    if (now <= old && old - now <= SPARE_BYTES) return lu__chunk_payload(chunk);
    void *start = lu__area_remap(area, lu__chunk_below(chunk, lead), old, now, true);
    if (start == NULL) return now <= old ? lu__chunk_payload(chunk) : NULL;
    void *payload = (void *)((uintptr_t)start + lead + LU_CHUNK_HEADER);
    put_headers(&(struct lu__mapping){(uintptr_t)start, now}, payload);
    return payload;
}
