/*
 * dl_space.c - the memory of a space: segments, their top, growing and trimming; further spaces.
 *
 *     of the break   [chunk|chunk|  free  |chunk|          top           |fence]
 *     a mapping      [record|chunk|chunk|    free     |chunk|chunk|chunk |fence]
 *     of a further   [record, space|chunk|       free       |chunk|chunk |fence]
 *     space
 *
 * A segment is a piece of the area that chunks tile. The break's is the first that the main space
 * has and in general the only one: it grows and shrinks at its end. Where the break cannot rise,
 * because a limit, a mapping or somebody else's break is in the way, a mapping becomes a further
 * segment; the list of segments is by address. A mapping begins with a used chunk that holds the
 * record of the segment. The last 16 bytes of each segment are the fence: a header that says
 * "used", so that nobody merges with what lies behind, with room for the foot of a free chunk
 * before it.
 *
 * Top is the free chunk at the end of the segment that grew last, the one from which memory is
 * taken when no bin has any. It is in no bin; when another segment becomes the one that grows, the
 * old top goes to its bin like any free chunk. It never gets smaller than a chunk. Its foot is not
 * kept, for that would touch a page far above all that is used.
 *
 * The break rises by what is needed and top_pad more. When top exceeds trim_threshold by 64 KiB it
 * is cut back to the threshold, so a program that frees and allocates by turns does not move the
 * break each time. A mapping whose chunks are all free again is given back, unless it has the top.
 *
 * One thread at a time for each heap.
 */
#include "classic/dl.h"

#include <string.h>

void lu__dl_space_init(struct lu__dl_space *space, struct lu__classic *heap) {
    memset(space, 0, sizeof *space);
    space->heap = heap;
    lu__dl_bins_init(space);
}

static struct lu__dl *dl_of(const struct lu__dl_space *space) {
    return (struct lu__dl *)space->heap;
}

/* ---------------------------------------------------------------- segments */

struct lu__dl_segment *lu__dl_segment_of(const struct lu__dl_space *space, const void *chunk) {
    uintptr_t at = (uintptr_t)chunk;
    struct lu__dl_segment *segment = space->segments;
    while (segment != NULL &&
           (at < segment->start || at >= segment->end || segment->end - at <= LU_DL_FENCE)) {
        segment = segment->next;
    }
    return segment;
}

/* Bytes of the used chunk at the start of a mapping. */
static size_t record_bytes(bool with_space) {
    size_t bytes = LU_CHUNK_HEADER + sizeof(struct lu__dl_segment);
    if (with_space) bytes += sizeof(struct lu__dl_space);
    return lu__align_up(bytes, LU_CHUNK_ALIGN);
}

struct lu__chunk *lu__dl_segment_first(const struct lu__dl_segment *segment) {
    uintptr_t first = segment->start;
    if (segment->mapping) first += record_bytes(segment == segment->space->home);
    return (struct lu__chunk *)first;
}

static void link_segment(struct lu__dl_space *space, struct lu__dl_segment *segment) {
    struct lu__dl_segment **link = &space->segments;
    while (*link != NULL && (*link)->start < segment->start) link = &(*link)->next;
    segment->next = *link;
    *link = segment;
    space->footprint += segment->end - segment->start;
}

static void unlink_segment(struct lu__dl_space *space, struct lu__dl_segment *segment) {
    struct lu__dl_segment **link = &space->segments;
    while (*link != segment) link = &(*link)->next;
    *link = segment->next;
    space->footprint -= segment->end - segment->start;
}

/* The header at the end of a segment, behind a free chunk. */
static void put_fence(uintptr_t end) {
    struct lu__chunk *fence = (struct lu__chunk *)(end - LU_DL_FENCE);
    fence->head = LU_DL_FENCE | LU_DL_USED;
}

/* Make a mapping a segment with one free chunk, which it returns and which is nowhere listed. */
static struct lu__chunk *lay_segment(struct lu__dl_space *space, uintptr_t start, size_t bytes) {
    struct lu__chunk *record = (struct lu__chunk *)start;
    struct lu__dl_segment *segment = lu__chunk_payload(record);
    uintptr_t end = start + bytes;
    *segment = (struct lu__dl_segment){NULL, space, start, end, true};
    if (space->home == NULL && space != &dl_of(space)->main) space->home = segment;
    struct lu__chunk *first = lu__dl_segment_first(segment);
    record->foot_before = 0;
    record->head = ((uintptr_t)first - start) | LU_DL_USED | LU_CHUNK_BEFORE_USED;
    put_fence(end);
    lu__dl_set_free(first, end - LU_DL_FENCE - (uintptr_t)first);
    link_segment(space, segment);
    return first;
}

/* ---------------------------------------------------------------- top */

void lu__dl_set_top(struct lu__dl_space *space, struct lu__chunk *chunk, size_t size) {
    space->top = chunk;
    space->top_size = size;
    chunk->head = size | LU_CHUNK_BEFORE_USED;
}

/* A new top; the old one becomes a free chunk like others. */
static void change_top(struct lu__dl_space *space, struct lu__chunk *chunk, size_t size) {
    if (space->top != NULL) {
        lu__dl_set_free(space->top, space->top_size);
        lu__dl_bin(space, space->top);
    }
    lu__dl_set_top(space, chunk, size);
}

/* ---------------------------------------------------------------- growing */

/* Move the break up by `least` bytes, and top_pad more if possible: by *bytes. Where it was; NULL:
 * it cannot rise. */
static void *raise_break(struct lu__dl_space *space, size_t least, size_t *bytes) {
    struct lu__area *area = &space->heap->area;
    size_t padded = lu__align_up(least + dl_of(space)->top_pad, LU_OS_PAGE);
    void *old = NULL;
    *bytes = padded;
    if (padded >= least && padded <= PTRDIFF_MAX) old = lu__area_sbrk(area, (ptrdiff_t)padded);
    if (old != NULL) return old;
    *bytes = lu__align_up(least, LU_OS_PAGE);
    return *bytes <= PTRDIFF_MAX ? lu__area_sbrk(area, (ptrdiff_t)*bytes) : NULL;
}

/* The main space's first memory. */
static bool begin_break(struct lu__dl_space *space, size_t size) {
    struct lu__dl_segment *segment = &space->of_break;
    size_t bytes;
    void *old = raise_break(space, size + LU_CHUNK_LEAST + LU_DL_FENCE, &bytes);
    if (old == NULL) return false;
    uintptr_t start = (uintptr_t)old;
    *segment = (struct lu__dl_segment){NULL, space, start, start + bytes, false};
    link_segment(space, segment);
    put_fence(segment->end);
    change_top(space, (struct lu__chunk *)start, bytes - LU_DL_FENCE);
    return true;
}

/* The break rises by `least` or more: then what is from `first` to its end is one free chunk, in
 * no bin, of the size returned. 0: it cannot rise. */
static size_t extend_break(struct lu__dl_space *space, struct lu__chunk *first, size_t least) {
    struct lu__dl_segment *segment = &space->of_break;
    size_t bytes;
    if (raise_break(space, least, &bytes) == NULL) return 0;
    space->pinned = false;
    segment->end += bytes;
    space->footprint += bytes;
    put_fence(segment->end);
    return segment->end - LU_DL_FENCE - (uintptr_t)first;
}

/* The break's segment has top: it becomes larger. */
static bool extend_top(struct lu__dl_space *space, size_t size) {
    size_t least = size + LU_CHUNK_LEAST - space->top_size;
    size_t now = extend_break(space, space->top, least);
    if (now != 0) lu__dl_set_top(space, space->top, now);
    return now != 0;
}

/* A mapping has top, for the break could not rise; now it may, and its segment has top again. */
static bool return_to_break(struct lu__dl_space *space, size_t size) {
    struct lu__dl_segment *segment = &space->of_break;
    struct lu__chunk *fence = (struct lu__chunk *)(segment->end - LU_DL_FENCE), *first = fence;
    bool joined = !lu__chunk_before_used(fence), as_dv = false;
    if (joined) {
        first = lu__chunk_before(fence);
        as_dv = first == space->dv;
        if (lu__dl_segment_of(space, first) != segment) {
            return lu__dl_damaged(space, "the end of a segment is damaged", fence);
        }
        if (!lu__dl_unlist(space, first)) return false;
    }
    size_t now = extend_break(space, first, size + LU_CHUNK_LEAST);
    if (now != 0) {
        LU_COUNT(space->heap, merges, joined);
        change_top(space, first, now);
    } else if (joined) {
        lu__dl_relist(space, first, as_dv);
    }
    return now != 0;
}

static bool grow_break(struct lu__dl_space *space, size_t size) {
    if (space->of_break.end == 0) return begin_break(space, size);
    if (lu__dl_segment_of(space, space->top) == &space->of_break) return extend_top(space, size);
    return return_to_break(space, size);
}

/* A mapping as a further segment: an eighth of what there is, so that there are few. */
static bool add_segment(struct lu__dl_space *space, size_t size) {
    size_t least = size + record_bytes(false) + LU_CHUNK_LEAST + LU_DL_FENCE;
    size_t bytes = lu__align_up(LU_MAX(least, space->footprint / 8), LU_DL_GRANULE);
    void *at = lu__area_map(&space->heap->area, bytes, LU_OS_PAGE);
    if (at == NULL) {
        bytes = lu__align_up(least, LU_OS_PAGE);
        at = lu__area_map(&space->heap->area, bytes, LU_OS_PAGE);
    }
    if (at == NULL) return false;
    struct lu__chunk *first = lay_segment(space, (uintptr_t)at, bytes);
    change_top(space, first, lu__chunk_size(first));
    return true;
}

bool lu__dl_grow(struct lu__dl_space *space, size_t size) {
    bool is_main = space == &dl_of(space)->main;
    return (is_main && grow_break(space, size)) || add_segment(space, size);
}

/* ---------------------------------------------------------------- giving back */

void lu__dl_trim_top(struct lu__dl_space *space, size_t keep, size_t unit) {
    keep = LU_MAX(keep, LU_CHUNK_LEAST);
    if (space->top == NULL || space->top_size < keep) return;
    size_t extra = lu__align_down(space->top_size - keep, unit);
    if (extra == 0) return;
    struct lu__dl_segment *segment = lu__dl_segment_of(space, space->top);
    if (segment->mapping) {
        lu__area_unmap(&space->heap->area, (void *)(segment->end - extra), extra);
    } else if (lu__area_sbrk(&space->heap->area, -(ptrdiff_t)extra) == NULL) {
        space->pinned = true;
        return;
    }
    segment->end -= extra;
    space->footprint -= extra;
    put_fence(segment->end);
    lu__dl_set_top(space, space->top, space->top_size - extra);
}

/* A segment with nothing used: true if it may go. */
static bool is_spare(const struct lu__dl_space *space, const struct lu__dl_segment *segment) {
    if (!segment->mapping || segment == space->home) return false;
    const struct lu__chunk *first = lu__dl_segment_first(segment);
    return !lu__dl_used(first) && first != space->top &&
           (uintptr_t)lu__chunk_next(first) == segment->end - LU_DL_FENCE;
}

void lu__dl_settle(struct lu__dl_space *space, struct lu__dl_segment *segment) {
    size_t threshold = dl_of(space)->trim_threshold;
    size_t unit = threshold < LU_DL_GRANULE ? LU_OS_PAGE : LU_DL_GRANULE;
    if (!space->pinned) lu__dl_trim_top(space, threshold, unit);
    if (!is_spare(space, segment)) return;
    if (!lu__dl_unlist(space, lu__dl_segment_first(segment))) return;
    unlink_segment(space, segment);
    void *start = (void *)segment->start;
    lu__area_unmap(&space->heap->area, start, segment->end - segment->start);
}

/* ---------------------------------------------------------------- spaces */

struct lu__dl_space *lu__dl_space_create(struct lu__classic *heap, size_t capacity) {
    struct lu__dl *dl = (struct lu__dl *)heap;
    size_t overhead = record_bytes(true) + LU_CHUNK_LEAST + LU_DL_FENCE;
    if (capacity > PTRDIFF_MAX - LU_DL_GRANULE) return NULL;
    if (capacity == 0) capacity = LU_DL_GRANULE - overhead;
    size_t bytes = lu__align_up(capacity + overhead, LU_OS_PAGE);
    void *at = lu__area_map(&heap->area, bytes, LU_OS_PAGE);
    if (at == NULL) return NULL;
    uintptr_t place = (uintptr_t)at + LU_CHUNK_HEADER + sizeof(struct lu__dl_segment);
    struct lu__dl_space *space = (struct lu__dl_space *)place;
    lu__dl_space_init(space, heap);
    struct lu__chunk *first = lay_segment(space, (uintptr_t)at, bytes);
    lu__dl_set_top(space, first, lu__chunk_size(first));
    space->next = dl->main.next;
    dl->main.next = space;
    return space;
}

void lu__dl_space_destroy(struct lu__dl_space *space) {
    struct lu__area *area = &space->heap->area;
    struct lu__dl_space **link = &dl_of(space)->main.next;
    while (*link != space) link = &(*link)->next;
    *link = space->next;
    struct lu__dl_segment *segment = space->segments, *next;
    for (; segment != NULL; segment = next) { /* one of them has the space itself */
        next = segment->next;
        lu__area_unmap(area, (void *)segment->start, segment->end - segment->start);
    }
}
