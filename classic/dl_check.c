/*
 * dl_check.c - every block of a heap of the policy dl, and every invariant.
 *
 * The walk goes by address: the break's segment where it belongs between the mappings; each mapping
 * is a segment of some space, which its first header tells ("used"), or one chunk (no flags).
 *
 * The check does not trust what it has not checked. First the segments of every space: each is
 * exactly one mapping of the area, or the break; only then its chunks, header by header:
 *
 *     sizes are multiples of 16, at least 32, and end exactly at the fence
 *     BEFORE_USED says what the chunk before is; never two free ones side by side
 *     a free chunk has its size again as its foot; top has none, and is the last of its segment
 *     dv and top are met once each, with the sizes that the space has noted
 *
 * then the bins: links are mutual and lead to free chunks of the bin's sizes, maps tell which bins
 * are not empty, tries are ordered, and in all bins there are as many chunks as were met free. What
 * is not a segment is a chunk with its mapping; together that is all that the area holds.
 *
 * One thread at a time for each heap.
 */
#include "classic/dl.h"

/* ---------------------------------------------------------------- walks */

static enum lu__block_state state_of(const struct lu__dl_segment *segment,
                                     const struct lu__chunk *chunk) {
    bool is_fence = (uintptr_t)chunk == segment->end - LU_DL_FENCE;
    if (chunk < lu__dl_segment_first(segment) || is_fence) return LU_BLOCK_META;
    if (lu__dl_used(chunk)) return LU_BLOCK_USED;
    return chunk == segment->space->top ? LU_BLOCK_TOP : LU_BLOCK_FREE;
}

static bool walk_segment(const struct lu__dl_segment *segment, lu__block_visit *visit, void *arg) {
    uintptr_t at = segment->start;
    while (at < segment->end) {
        const struct lu__chunk *chunk = (const struct lu__chunk *)at;
        struct lu__block block = {.start = at,
                                  .bytes = lu__chunk_size(chunk),
                                  .header = LU_CHUNK_HEADER,
                                  .state = state_of(segment, chunk),
                                  .mapped = segment->mapping};
        if (block.state == LU_BLOCK_USED) block.usable = block.bytes - LU_CHUNK_OVERHEAD;
        if (!visit(arg, &block)) return false;
        at += block.bytes;
    }
    return true;
}

static bool walk_mapping(const struct lu__mapping *mapping, lu__block_visit *visit, void *arg) {
    struct lu__chunk *first = (struct lu__chunk *)mapping->start;
    if (lu__dl_used(first)) return walk_segment(lu__chunk_payload(first), visit, arg);
    size_t header = (uintptr_t)lu__chunk_payload(lu__dl_map_chunk(mapping)) - mapping->start;
    struct lu__block block = {.start = mapping->start,
                              .bytes = mapping->bytes,
                              .header = header,
                              .usable = mapping->bytes - header,
                              .state = LU_BLOCK_USED,
                              .mapped = true};
    return visit(arg, &block);
}

void lu__dl_walk(struct lu__classic *self, lu__block_visit *visit, void *arg) {
    const struct lu__area *area = &self->area;
    const struct lu__dl_segment *of_break = &((const struct lu__dl *)self)->main.of_break;
    size_t i = 0;
    while (i < area->mapping_count && area->mappings[i].start < of_break->start) {
        if (!walk_mapping(&area->mappings[i++], visit, arg)) return;
    }
    if (!walk_segment(of_break, visit, arg)) return;
    while (i < area->mapping_count) {
        if (!walk_mapping(&area->mappings[i++], visit, arg)) return;
    }
}

void lu__dl_space_walk(struct lu__dl_space *space, lu__block_visit *visit, void *arg) {
    const struct lu__dl_segment *segment = space->segments;
    while (segment != NULL && walk_segment(segment, visit, arg)) segment = segment->next;
}

/* ---------------------------------------------------------------- one space */

struct check {
    const struct lu__dl_space *space;
    struct lu__classic_fault *fault;
    size_t free_chunks; /* neither top nor dv */
    size_t tops, dvs, bytes, mappings;
};

static bool wrong(struct check *check, const char *what, const void *where) {
    *check->fault = (struct lu__classic_fault){what, (uintptr_t)where};
    return false;
}

/* The end of the mapping that begins there; 0: none does. */
static uintptr_t end_of_mapping(const struct lu__area *area, uintptr_t start) {
    for (size_t i = 0; i < area->mapping_count; i++) {
        const struct lu__mapping *mapping = &area->mappings[i];
        if (mapping->start == start) return start + mapping->bytes;
    }
    return 0;
}

/* The record may be read, and tells of one mapping, or of the break. */
static bool check_record(struct check *check, const struct lu__dl_segment *segment) {
    const struct lu__area *area = &check->space->heap->area;
    bool of_break = segment == &((const struct lu__dl *)check->space->heap)->main.of_break;
    uintptr_t start = of_break ? area->base : (uintptr_t)lu__chunk_of(segment);
    uintptr_t end = of_break ? area->base + area->broken : end_of_mapping(area, start);
    if (end == 0) return wrong(check, "a segment that is no mapping", segment);
    if (segment->space != check->space || segment->start != start || segment->end != end ||
        segment->mapping == of_break) {
        return wrong(check, "the record of a segment is damaged", segment);
    }
    const struct lu__chunk *record = (const struct lu__chunk *)start;
    size_t lead = (uintptr_t)lu__dl_segment_first(segment) - start;
    if (lead != 0 && record->head != (lead | LU_DL_USED | LU_CHUNK_BEFORE_USED)) {
        return wrong(check, "the header of a segment is damaged", record);
    }
    check->mappings += segment->mapping;
    check->bytes += end - start;
    return true;
}

static bool check_free(struct check *check, const struct lu__chunk *chunk, uintptr_t fence) {
    const struct lu__dl_space *space = check->space;
    size_t size = lu__chunk_size(chunk);
    if (chunk == space->top) {
        check->tops++;
        if (size != space->top_size) return wrong(check, "top is not as large as noted", chunk);
        if ((uintptr_t)chunk + size != fence) return wrong(check, "top is not at the end", chunk);
        return true;
    }
    if (lu__chunk_next(chunk)->foot_before != size) {
        return wrong(check, "the foot of a free block is damaged", chunk);
    }
    if (chunk != space->dv) {
        check->free_chunks++;
        return true;
    }
    check->dvs++;
    return size == space->dv_size ||
           wrong(check, "the designated victim is not as large as noted", chunk);
}

static bool check_segment(struct check *check, const struct lu__dl_segment *segment) {
    const struct lu__chunk *chunk = lu__dl_segment_first(segment);
    uintptr_t fence = segment->end - LU_DL_FENCE;
    bool before_used = true;
    while ((uintptr_t)chunk != fence) {
        size_t size = lu__chunk_size(chunk), flags = chunk->head & LU_CHUNK_FLAGS;
        if ((flags & ~(LU_DL_USED | LU_CHUNK_BEFORE_USED)) != 0 || size < LU_CHUNK_LEAST ||
            size > fence - (uintptr_t)chunk) {
            return wrong(check, "the header of a block is damaged", chunk);
        }
        if (lu__chunk_before_used(chunk) != before_used) {
            return wrong(check, "a block that is wrong about the one before it", chunk);
        }
        if (!before_used && !lu__dl_used(chunk)) {
            return wrong(check, "two free blocks side by side", chunk);
        }
        if (!lu__dl_used(chunk) && !check_free(check, chunk, fence)) return false;
        before_used = lu__dl_used(chunk);
        chunk = lu__chunk_next(chunk);
    }
    size_t head = LU_DL_FENCE | LU_DL_USED | (before_used ? LU_CHUNK_BEFORE_USED : 0);
    return chunk->head == head || wrong(check, "the fence of a segment is damaged", chunk);
}

static bool check_segments(struct check *check) {
    uintptr_t end = 0;
    const struct lu__dl_segment *segment = check->space->segments;
    for (; segment != NULL; segment = segment->next) {
        if (!check_record(check, segment)) return false;
        if (segment->start < end) return wrong(check, "segments out of order", segment);
        end = segment->end;
        if (!check_segment(check, segment)) return false;
    }
    const struct lu__dl_space *space = check->space;
    if (check->tops != (space->top != NULL)) return wrong(check, "no top", space->top);
    if (check->dvs != (space->dv != NULL)) return wrong(check, "no designated victim", space->dv);
    if (check->bytes != space->footprint) return wrong(check, "segments are missing", space);
    return true;
}

/* ---------------------------------------------------------------- its bins */

static bool check_small_bin(struct check *check, unsigned index, size_t *listed) {
    const struct lu__dl_space *space = check->space;
    const struct lu__links *bin = &space->small[index];
    bool marked = (space->small_map >> index & 1) != 0;
    if (marked != (bin->next != bin)) {
        return wrong(check, "the map of small bins is not what they are", bin);
    }
    size_t size = (size_t)index << LU_DL_SMALL_SHIFT;
    const struct lu__links *links = bin;
    do {
        if (!lu__dl_ring_sound(space, links)) return wrong(check, "a ring that is broken", links);
        links = links->next;
        const struct lu__chunk *chunk = lu__chunk_of_links(links);
        if (links == bin) break;
        if (chunk->head != (size | LU_CHUNK_BEFORE_USED)) {
            return wrong(check, "a block in the wrong bin", chunk);
        }
        if (++*listed > check->free_chunks) return wrong(check, "a circle of links", chunk);
    } while (true);
    return true;
}

static bool check_space(struct check *check) {
    if (!check_segments(check)) return false;
    size_t listed = 0;
    for (unsigned i = 0; i < LU_DL_BINS; i++) {
        if (!check_small_bin(check, i, &listed) ||
            !lu__dl_tree_validate(check->space, i, &listed, check->fault)) {
            return false;
        }
    }
    return listed == check->free_chunks ||
           wrong(check, "a free block that is in no bin", check->space);
}

/* ---------------------------------------------------------------- all */

bool lu__dl_validate(struct lu__classic *self, struct lu__classic_fault *fault) {
    const struct lu__dl *dl = (const struct lu__dl *)self;
    const struct lu__area *area = &self->area;
    size_t segments = 0, chunks = 0;
    struct check check = {.fault = fault};
    for (const struct lu__dl_space *space = &dl->main; space != NULL; space = space->next) {
        check = (struct check){.space = space, .fault = fault};
        if (!check_space(&check)) return false;
        segments += check.mappings;
    }
    for (size_t i = 0; i < area->mapping_count; i++) {
        const struct lu__chunk *first = (const struct lu__chunk *)area->mappings[i].start;
        if (lu__dl_used(first)) continue;
        chunks++;
        if (lu__dl_map_chunk(&area->mappings[i]) == NULL) {
            return wrong(&check, "the header of a mapped block is damaged", first);
        }
    }
    if (segments + chunks != area->mapping_count) {
        return wrong(&check, "a mapping that is neither segment nor block", self);
    }
    return true;
}
