/*
 * document_reduce.c - makes a document small enough for a page, and says what was left out.
 *
 * As long as the whole is too large, its largest section is reduced by one step:
 *
 *     heap       blocks above ENOUGH_BLOCKS in a frame are merged; then every second frame goes, of
 *                all heaps with the same events alike; in turns and with lower limits after that
 *     chart      every second point goes; the first and the last stay
 *     table      the second half of its rows goes; text: its second half; addresses: small parts
 *
 * Merging keeps every sum. Neighbours of one state become one block, the smallest first:
 *
 *     used 32 | used 16 | free 64        ->   used 48 (2 blocks) | free 64
 *
 * and where that is not enough, small neighbours of all states are put together by state, so that
 * sizes stay right and places are off by less than the size of the group:
 *
 *     used 32 | free 16 | used 32        ->   used 64 (2 blocks) | free 16
 *
 * A merged block has a seventh number: how many it stands for. Its age is that of the oldest.
 * Blocks with a gap between them are never merged.
 */
#include "document/document_parts.h"
#include "frame/frame.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum {
    ENOUGH_BLOCKS = 2048,
    ENOUGH_FRAMES = 24,
    ENOUGH_POINTS = 32,
    GROUP = 8,
    STATES = 6,
    NOTE_BYTES = 400
};

size_t document_bytes(const json_t *value) {
    return json_dumpb(value, NULL, 0, DOCUMENT_DUMP_FLAGS);
}

static json_t *need(json_t *value) {
    if (value == NULL) tool_die("out of memory");
    return value;
}

static void set(json_t *object, const char *key, json_t *value) {
    if (json_object_set_new(object, key, value) != 0) tool_die("out of memory");
}

/* ------------------------------------------------------------------ what was left out -------- */

/* What the steps did to a section is counted, and told once at the end. */
struct notes {
    size_t frames, points, rows, parts, text; /* as there were; 0: untouched */
    bool merged, gathered;
};

static void tell(json_t *section, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void tell(json_t *section, const char *format, ...) {
    char *text;
    va_list args;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0) tool_die("out of memory");
    va_end(args);
    const char *before = document_member(section, "left_out");
    char *both = tool_format("%s%s%s", before, before[0] != '\0' ? "; " : "", text);
    set(section, "left_out", need(json_string(both)));
    free(both);
    free(text);
}

static json_t *frames_of(const json_t *section) {
    return json_object_get(section, "frames");
}

static json_t *points_of(const json_t *section) {
    return json_object_get(json_object_get(section, "x"), "values");
}

/* "3 of 2,000 frames are kept" */
static void tell_kept(json_t *section, const char *which, size_t kept, size_t all,
                      const char *what) {
    if (all == 0) return;
    tell(section, "%s%s of %s %s are kept", which, cell_count((double)kept).text,
         cell_count((double)all).text, what);
}

static size_t member_size(const json_t *section, const char *name) {
    return json_array_size(json_object_get(section, name));
}

static void tell_all(json_t *section, const struct notes *notes) {
    tell_kept(section, "", json_array_size(frames_of(section)), notes->frames, "frames");
    if (notes->merged) tell(section, "small neighbouring blocks of the same state are merged");
    if (notes->gathered)
        tell(section, "small neighbours are put together by state, so that places are not exact");
    tell_kept(section, "", json_array_size(points_of(section)), notes->points, "points");
    tell_kept(section, "the first ", member_size(section, "rows"), notes->rows, "rows");
    tell_kept(section, "the largest ", member_size(section, "parts"), notes->parts, "parts");
    tell_kept(section, "the first ", strlen(document_member(section, "text")), notes->text,
              "bytes of text");
}

/* ------------------------------------------------------------------ blocks ------------------- */

static json_t *write_block(const struct drawn_block *block) {
    return need(json_pack("[I,I,I,I,s,I,I]", (json_int_t)block->start, (json_int_t)block->bytes,
                          (json_int_t)block->header, (json_int_t)block->asked, block->state,
                          (json_int_t)block->age, (json_int_t)block->count));
}

/* One after the other, and of the same state if `same`. */
static bool joined(const struct drawn_block *a, const struct drawn_block *b, bool same) {
    return a->start + a->bytes == b->start && (!same || strcmp(a->state, b->state) == 0);
}

static void add_to(struct drawn_block *sum, const struct drawn_block *block) {
    sum->bytes += block->bytes;
    sum->header += block->header;
    sum->asked += block->asked;
    sum->count += block->count;
    if (block->age > sum->age) sum->age = block->age;
}

/* Put `count` neighbours together by state; how many blocks are left, from `blocks` on. */
static size_t gather(struct drawn_block *blocks, size_t count) {
    struct drawn_block sums[STATES];
    uint64_t start = blocks[0].start;
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        size_t at = 0;
        while (at < used && strcmp(sums[at].state, blocks[i].state) != 0) at++;
        if (at == STATES) return count; /* states that no document has */
        if (at == used) {
            sums[used++] = blocks[i];
        } else {
            add_to(&sums[at], &blocks[i]);
        }
    }
    for (size_t i = 0; i < used; i++) {
        sums[i].start = start;
        start += sums[i].bytes;
        blocks[i] = sums[i];
    }
    return used;
}

/* Merge runs of joined blocks that are smaller than `limit` each; how many are left. */
static size_t merge_below(struct drawn_block *blocks, size_t count, uint64_t limit, bool same) {
    size_t kept = 0;
    for (size_t i = 0; i < count;) {
        size_t end = i + 1;
        if (blocks[i].bytes < limit)
            while (end < count && (same || end - i < GROUP) && blocks[end].bytes < limit &&
                   joined(&blocks[end - 1], &blocks[end], same))
                end++;
        size_t left = end - i > 1 ? gather(&blocks[i], end - i) : 1;
        memmove(&blocks[kept], &blocks[i], left * sizeof(*blocks));
        kept += left;
        i = end;
    }
    return kept;
}

/* The smallest first, until there are at most `most`. */
static size_t merge_until(struct drawn_block *blocks, size_t count, size_t most, bool same) {
    for (unsigned shift = 5; shift < 48 && count > most; shift++)
        count = merge_below(blocks, count, (uint64_t)1 << shift, same);
    return count;
}

static void merge_frame(json_t *frame, size_t most, struct notes *notes) {
    const json_t *old = json_object_get(frame, "blocks");
    size_t count = json_array_size(old), all = count;
    if (count <= most) return;
    struct drawn_block *blocks = tool_alloc(count, sizeof(*blocks));
    for (size_t i = 0; i < count; i++) blocks[i] = document_read_block(json_array_get(old, i));
    count = merge_until(blocks, count, most, true);
    notes->merged |= count < all;
    if (count > most) {
        all = count;
        count = merge_until(blocks, count, most, false);
        notes->gathered |= count < all;
    }
    json_t *fresh = need(json_array());
    for (size_t i = 0; i < count; i++)
        if (json_array_append_new(fresh, write_block(&blocks[i])) != 0) tool_die("out of memory");
    set(frame, "blocks", fresh); /* ends `old`, which has the texts of the states */
    free(blocks);
}

static size_t most_blocks(const json_t *section) {
    size_t most = 0, index;
    json_t *frame;
    json_array_foreach(frames_of(section), index, frame) {
        size_t count = json_array_size(json_object_get(frame, "blocks"));
        if (count > most) most = count;
    }
    return most;
}

/* ------------------------------------------------------------------ thinning ----------------- */

/* Every second element and the last one stay. */
static void thin(json_t *array) {
    size_t count = json_array_size(array), kept = 0;
    for (size_t i = 0; i < count; i++)
        if (i % 2 == 0 || i == count - 1) json_array_set(array, kept++, json_array_get(array, i));
    while (json_array_size(array) > kept) json_array_remove(array, json_array_size(array) - 1);
}

static bool same_events(const json_t *a, const json_t *b) {
    size_t count = json_array_size(a);
    if (count != json_array_size(b)) return false;
    for (size_t i = 0; i < count; i++)
        if (!json_equal(json_object_get(json_array_get(a, i), "event"),
                        json_object_get(json_array_get(b, i), "event")))
            return false;
    return true;
}

/* Heaps that have the same events keep the same ones. */
static void thin_frames(json_t *sections, size_t chosen, struct notes *notes) {
    size_t count = json_array_size(sections);
    bool *also = tool_alloc(count, sizeof(*also));
    const json_t *frames = frames_of(json_array_get(sections, chosen));
    for (size_t i = 0; i < count; i++) {
        const json_t *others = frames_of(json_array_get(sections, i));
        also[i] = i == chosen || (others != NULL && same_events(frames, others));
    }
    for (size_t i = 0; i < count; i++) {
        if (!also[i]) continue;
        json_t *thinned = frames_of(json_array_get(sections, i));
        if (notes[i].frames == 0) notes[i].frames = json_array_size(thinned);
        thin(thinned);
    }
    free(also);
}

/* ------------------------------------------------------------------ steps -------------------- */

/* False: there is nothing more to take. */
static bool reduce_heap(json_t *sections, size_t chosen, struct notes *notes) {
    json_t *section = json_array_get(sections, chosen), *frame;
    size_t frames = json_array_size(frames_of(section)), blocks = most_blocks(section), index;
    bool merge = blocks > ENOUGH_BLOCKS || (frames <= ENOUGH_FRAMES && blocks > 16);
    if (!merge && frames <= 2) return false;
    if (!merge) {
        thin_frames(sections, chosen, notes);
        return true;
    }
    json_array_foreach(frames_of(section), index, frame)
        merge_frame(frame, blocks / 2, &notes[chosen]);
    if (most_blocks(section) < blocks) return true;
    if (frames <= 2) return false; /* nothing but gaps between the blocks */
    thin_frames(sections, chosen, notes);
    return true;
}

static bool reduce_chart(json_t *section, struct notes *notes) {
    size_t count = json_array_size(points_of(section)), index;
    json_t *series;
    if (count <= ENOUGH_POINTS) return false;
    if (notes->points == 0) notes->points = count;
    thin(points_of(section));
    json_array_foreach(json_object_get(section, "series"), index, series)
        thin(json_object_get(series, "values"));
    return true;
}

static bool halve(json_t *array, size_t *noted) {
    size_t count = json_array_size(array);
    if (count <= 16) return false;
    if (*noted == 0) *noted = count;
    while (json_array_size(array) > count / 2) json_array_remove(array, json_array_size(array) - 1);
    return true;
}

static int larger_part_first(const void *a, const void *b) {
    json_int_t x = json_integer_value(json_object_get(*(json_t *const *)a, "bytes"));
    json_int_t y = json_integer_value(json_object_get(*(json_t *const *)b, "bytes"));
    return (x < y) - (x > y);
}

static bool reduce_addresses(json_t *section, struct notes *notes) {
    json_t *parts = json_object_get(section, "parts");
    size_t count = json_array_size(parts);
    json_t **sorted = tool_alloc(count, sizeof(json_t *));
    for (size_t i = 0; i < count; i++) sorted[i] = json_array_get(parts, i);
    qsort(sorted, count, sizeof(json_t *), larger_part_first);
    json_t *fresh = need(json_array());
    for (size_t i = 0; i < count; i++)
        if (json_array_append(fresh, sorted[i]) != 0) tool_die("out of memory");
    free(sorted);
    set(section, "parts", fresh);
    return halve(fresh, &notes->parts);
}

static bool reduce_text(json_t *section, struct notes *notes) {
    const char *text = document_member(section, "text");
    size_t length = strlen(text);
    if (length < 4096) return false;
    if (notes->text == 0) notes->text = length;
    length /= 2;
    while (length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80) length--;
    set(section, "text", need(json_stringn(text, length)));
    return true;
}

static bool reduce_one(json_t *sections, size_t chosen, struct notes *notes) {
    json_t *section = json_array_get(sections, chosen);
    const char *type = document_member(section, "type");
    if (strcmp(type, "heap") == 0) return reduce_heap(sections, chosen, notes);
    if (strcmp(type, "chart") == 0) return reduce_chart(section, &notes[chosen]);
    if (strcmp(type, "table") == 0)
        return halve(json_object_get(section, "rows"), &notes[chosen].rows);
    if (strcmp(type, "addresses") == 0) return reduce_addresses(section, &notes[chosen]);
    return reduce_text(section, &notes[chosen]);
}

/* ------------------------------------------------------------------ the whole ---------------- */

/* The largest section that can still be reduced; `count` if none can. */
static size_t largest_of(const size_t *sizes, const bool *done, size_t count) {
    size_t best = count;
    for (size_t i = 0; i < count; i++)
        if (!done[i] && (best == count || sizes[i] > sizes[best])) best = i;
    return best;
}

/* Of all sections of this type; the sum of all. */
static size_t measure(const json_t *sections, const char *type, size_t *sizes) {
    size_t sum = 0, count = json_array_size(sections);
    for (size_t i = 0; i < count; i++) {
        const json_t *section = json_array_get(sections, i);
        if (type == NULL || strcmp(document_member(section, "type"), type) == 0)
            sizes[i] = document_bytes(section);
        sum += sizes[i] + 1; /* a comma */
    }
    return sum;
}

static void reduce(json_t *sections, size_t most) {
    size_t count = json_array_size(sections);
    size_t *sizes = tool_alloc(count, sizeof(*sizes));
    bool *done = tool_alloc(count, sizeof(*done));
    struct notes *notes = tool_alloc(count, sizeof(*notes));
    size_t sum = measure(sections, NULL, sizes);
    while (sum > most) {
        size_t chosen = largest_of(sizes, done, count);
        if (chosen == count) tool_die("%zu sections do not fit into one page", count);
        done[chosen] = !reduce_one(sections, chosen, notes);
        sum = measure(sections, document_member(json_array_get(sections, chosen), "type"), sizes);
    }
    for (size_t i = 0; i < count; i++) tell_all(json_array_get(sections, i), &notes[i]);
    free(notes);
    free(done);
    free(sizes);
}

json_t *document_reduced(const json_t *root, size_t most) {
    json_t *copy = need(json_object());
    const char *const members[] = {"schema", "title", "sections"};
    for (size_t i = 0; i < TOOL_COUNT_OF(members); i++)
        set(copy, members[i], need(json_deep_copy(json_object_get(root, members[i]))));
    if (document_bytes(copy) <= most) return copy;
    json_t *sections = json_object_get(copy, "sections");
    size_t aside = NOTE_BYTES * (json_array_size(sections) + 1) +
                   strlen(document_member(copy, "title"));
    if (aside > most / 2) aside = most / 2;
    reduce(sections, most - aside);
    if (document_bytes(copy) > most)
        tool_die("%zu sections do not fit into one page", json_array_size(sections));
    return copy;
}
