/*
 * document_strips.c - heaps and address spaces drawn with characters.
 *
 *     event 3: held 1,024 bytes, live 100                 one cell is so many bytes ("16 bytes")
 *     +0x0     |##.......|####- |################
 *              header, used, free, header, used, lost …
 *
 * A cell shows what most of its bytes are; where two are equal, the one that is easier to overlook.
 * Cells are powers of two, at least CELL_LEAST bytes, so that blocks which are multiples of a cell
 * are drawn exactly. Pieces of the heap with nothing between them are drawn one after the other,
 * each in a line of its own with its first address; of more than EXTENTS of them only the largest.
 *
 * An address space is a column of boxes, the high addresses on top, and what lies between them is
 * broken off and told in words.
 */
#include "document/document.h"

#include "document/document_parts.h"
#include "frame/frame.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { ROW_CELLS = 64, MOST_CELLS = 512, CELL_LEAST = 16, EXTENTS = 8, FRAMES = 12, BOX = 24 };
enum { BESIDE = 58, NOTE_LEAST = 22 }; /* what is told of a part: its column, and width */

/* ------------------------------------------------------------------ what bytes are ----------- */

/* In the order in which they win a cell that they share. */
enum what { HEADER, LOST, META, CACHED, USED, FREE, TOP, WHATS };

static const struct {
    const char *name, *rich, *colour, *plain;
} looks[WHATS] = {
    [HEADER] = {"header", "▐", "\033[35m", "|"}, [LOST] = {"lost inside", "▒", "\033[31m", "-"},
    [META] = {"meta", "▓", "\033[90m", "@"},     [CACHED] = {"cached", "▚", "\033[33m", "c"},
    [USED] = {"used", "█", "\033[34m", "#"},     [FREE] = {"free", "░", "\033[32m", "."},
    [TOP] = {"top", "·", "\033[36m", "_"},
};

static enum what what_of_state(const char *state) {
    if (strcmp(state, "used") == 0) return USED;
    if (strcmp(state, "free") == 0) return FREE;
    if (strcmp(state, "cached") == 0) return CACHED;
    return strcmp(state, "top") == 0 ? TOP : META;
}

/* Bytes of each kind in a cell, an extent or a frame. */
struct share {
    uint64_t bytes[WHATS];
};

/* Add what of the block lies from `low` up to `high`. */
static void add_piece(struct share *share, enum what what, uint64_t start, uint64_t end,
                      uint64_t low, uint64_t high) {
    if (start < low) start = low;
    if (end > high) end = high;
    if (start < end) share->bytes[what] += end - start;
}

static void add_block(struct share *share, const struct drawn_block *block, uint64_t low,
                      uint64_t high) {
    uint64_t start = block->start, end = start + block->bytes;
    enum what what = what_of_state(block->state);
    if (what != USED) {
        add_piece(share, what, start, end, low, high);
        return;
    }
    uint64_t payload = start + block->header, lost = payload + block->asked;
    add_piece(share, HEADER, start, payload < end ? payload : end, low, high);
    add_piece(share, USED, payload, lost < end ? lost : end, low, high);
    add_piece(share, LOST, lost, end, low, high);
}

static enum what largest(const struct share *share) {
    enum what best = HEADER;
    for (enum what what = HEADER; what < WHATS; what++)
        if (share->bytes[what] > share->bytes[best]) best = what;
    return best;
}

/* ------------------------------------------------------------------ frames ------------------- */

/* Blocks `first` up to `end` without a gap between them. */
struct extent {
    uint64_t low, high;
    size_t first, end;
};

struct frame {
    struct drawn_block *blocks;
    struct extent *extents;
    size_t block_count, extent_count;
    uint64_t bytes;
};

static int by_start(const void *a, const void *b) {
    const struct drawn_block *x = a, *y = b;
    return (x->start > y->start) - (x->start < y->start);
}

static void read_frame(struct frame *frame, const json_t *blocks) {
    size_t count = json_array_size(blocks);
    *frame = (struct frame){.block_count = count};
    frame->blocks = tool_alloc(count, sizeof(*frame->blocks));
    frame->extents = tool_alloc(count, sizeof(*frame->extents));
    for (size_t i = 0; i < count; i++)
        frame->blocks[i] = document_read_block(json_array_get(blocks, i));
    qsort(frame->blocks, count, sizeof(*frame->blocks), by_start);
    for (size_t i = 0; i < count; i++) {
        const struct drawn_block *block = &frame->blocks[i];
        struct extent *last = frame->extents + frame->extent_count - 1;
        if (frame->extent_count == 0 || last->high != block->start) {
            last = &frame->extents[frame->extent_count++];
            *last = (struct extent){.low = block->start, .first = i};
        }
        last->high = block->start + block->bytes;
        last->end = i + 1;
        frame->bytes += block->bytes;
    }
}

static void free_frame(struct frame *frame) {
    free(frame->blocks);
    free(frame->extents);
}

static void print_cell(const struct drawing *drawing, enum what what, enum what *before) {
    FILE *to = drawing->out->to;
    if (drawing->rich && what != *before) fputs(looks[what].colour, to);
    fputs(drawing->rich ? looks[what].rich : looks[what].plain, to);
    *before = what;
}

static void end_row(const struct drawing *drawing, enum what *before) {
    if (drawing->rich) fputs("\033[0m", drawing->out->to);
    fputc('\n', drawing->out->to);
    *before = WHATS;
}

static void print_extent(const struct drawing *drawing, const struct frame *frame,
                         const struct extent *extent, uint64_t cell) {
    enum what before = WHATS;
    size_t next = extent->first, column = 0;
    for (uint64_t low = extent->low; low < extent->high; low += cell) {
        struct share share = {{0}};
        while (frame->blocks[next].start + frame->blocks[next].bytes <= low) next++;
        for (size_t i = next; i < extent->end && frame->blocks[i].start < low + cell; i++)
            add_block(&share, &frame->blocks[i], low, low + cell);
        if (column == 0) fprintf(drawing->out->to, "  +0x%-9" PRIx64 " ", low);
        print_cell(drawing, largest(&share), &before);
        if (++column == ROW_CELLS) {
            end_row(drawing, &before);
            column = 0;
        }
    }
    if (column != 0) end_row(drawing, &before);
}

static int by_size(const void *a, const void *b) {
    const struct extent *x = a, *y = b;
    uint64_t left = x->high - x->low, right = y->high - y->low;
    return left != right ? (left < right) - (left > right) : (x->low > y->low) - (x->low < y->low);
}

static int by_address(const void *a, const void *b) {
    const struct extent *x = a, *y = b;
    return (x->low > y->low) - (x->low < y->low);
}

static void print_shares(const struct drawing *drawing, const struct frame *frame) {
    struct share share = {{0}};
    for (size_t i = 0; i < frame->block_count; i++)
        add_block(&share, &frame->blocks[i], 0, UINT64_MAX);
    const char *before = "  ";
    for (enum what what = HEADER; what < WHATS; what++) {
        if (share.bytes[what] == 0) continue;
        fprintf(drawing->out->to, "%s%s %s", before, looks[what].name,
                cell_count((double)share.bytes[what]).text);
        before = ", ";
    }
    fputs(frame->block_count != 0 ? " bytes\n" : "  nothing held\n", drawing->out->to);
}

static void print_frame(const struct drawing *drawing, const json_t *value, uint64_t cell) {
    struct frame frame;
    read_frame(&frame, json_object_get(value, "blocks"));
    const char *call = document_member(value, "call");
    fprintf(drawing->out->to, "event %s: held %s bytes, live %s\n",
            document_figure(json_object_get(value, "event"), "").text,
            document_figure(json_object_get(value, "held"), "").text,
            document_figure(json_object_get(value, "live"), "").text);
    if (call[0] != '\0') fprintf(drawing->out->to, "  after %s\n", call);
    size_t shown = frame.extent_count;
    if (shown > EXTENTS) {
        qsort(frame.extents, shown, sizeof(*frame.extents), by_size);
        shown = EXTENTS;
        qsort(frame.extents, shown, sizeof(*frame.extents), by_address);
    }
    for (size_t i = 0; i < shown; i++) print_extent(drawing, &frame, &frame.extents[i], cell);
    if (shown < frame.extent_count)
        fprintf(drawing->out->to, "  and %zu smaller pieces elsewhere\n",
                frame.extent_count - shown);
    print_shares(drawing, &frame);
    free_frame(&frame);
}

/* One for all frames, so that they can be compared. */
static uint64_t cell_bytes_of(const json_t *frames) {
    uint64_t most = 0, cell = CELL_LEAST;
    size_t index;
    json_t *value;
    json_array_foreach((json_t *)frames, index, value) {
        struct frame frame;
        read_frame(&frame, json_object_get(value, "blocks"));
        most = frame.bytes > most ? frame.bytes : most;
        free_frame(&frame);
    }
    while (most / cell > MOST_CELLS) cell *= 2;
    return cell;
}

static void print_legend(const struct drawing *drawing, uint64_t cell) {
    FILE *to = drawing->out->to;
    for (enum what what = HEADER; what < WHATS; what++)
        fprintf(to, "  %s%s%s %s", drawing->rich ? looks[what].colour : "",
                drawing->rich ? looks[what].rich : looks[what].plain,
                drawing->rich ? "\033[0m" : "", looks[what].name);
    fprintf(to, "\n  1 cell = %s bytes\n", cell_count((double)cell).text);
}

void document_print_heap(const struct drawing *drawing, const json_t *section) {
    const json_t *frames = json_object_get(section, "frames");
    size_t count = json_array_size(frames), shown = count > FRAMES ? FRAMES : count;
    uint64_t cell = cell_bytes_of(frames);
    print_legend(drawing, cell);
    for (size_t i = 0; i < shown; i++) {
        size_t at = shown < 2 ? i : i * (count - 1) / (shown - 1);
        print_frame(drawing, json_array_get(frames, at), cell);
    }
    if (shown < count)
        fprintf(drawing->out->to, "(%zu of %zu frames: --json and --html have all)\n", shown,
                count);
}

/* ------------------------------------------------------------------ addresses ---------------- */

struct part {
    const char *name, *kind, *note;
    uint64_t start, bytes;
};

static int from_above(const void *a, const void *b) {
    const struct part *x = a, *y = b;
    return (x->start < y->start) - (x->start > y->start);
}

static const char *colour_of_kind(const char *kind) {
    static const struct {
        const char *kind, *colour;
    } colours[] = {{"text", "\033[34m"},  {"data", "\033[36m"},    {"bss", "\033[96m"},
                   {"heap", "\033[32m"},  {"mapping", "\033[33m"}, {"stack", "\033[35m"},
                   {"kernel", "\033[90m"}};
    for (size_t i = 0; i < TOOL_COUNT_OF(colours); i++)
        if (strcmp(colours[i].kind, kind) == 0) return colours[i].colour;
    return "";
}

/* The line above a box: an edge, or the break in the scale. */
static void print_edge(const struct drawing *drawing, uint64_t gap, bool first, bool last) {
    FILE *to = drawing->out->to;
    const char *left = first ? "┌" : last ? "└" : "├", *right = first ? "┐" : last ? "┘" : "┤";
    fprintf(to, "%20s%s", "", drawing->rich ? left : "+");
    for (int i = 0; i < BOX; i++) fputs(drawing->rich ? "─" : "-", to);
    fprintf(to, "%s\n", drawing->rich ? right : "+");
    if (gap == 0) return;
    fprintf(to, "%20s%s %-*s%s\n", "", drawing->rich ? "≈" : "~", BOX - 1, "",
            drawing->rich ? "≈" : "~");
    fprintf(to, "%20s%s %-*s%s %s of nothing\n", "", drawing->rich ? "≈" : "~", BOX - 1, "",
            drawing->rich ? "≈" : "~", cell_bytes((double)gap).text);
    print_edge(drawing, 0, false, false);
}

static void print_part(const struct drawing *drawing, const struct part *part) {
    const char *side = drawing->rich ? "│" : "|";
    fprintf(drawing->out->to, "  0x%016" PRIx64 "%s%s ", part->start, side,
            drawing->rich ? colour_of_kind(part->kind) : "");
    document_pad(drawing, part->name, -(BOX - 1));
    fprintf(drawing->out->to, "%s%s %-10s ", drawing->rich ? "\033[0m" : "", side,
            cell_bytes((double)part->bytes).text);
    char *told = tool_format("%s%s%s", part->kind, part->note[0] != '\0' ? ", " : "", part->note);
    size_t columns = drawing->columns != 0 ? drawing->columns : 100;
    size_t room = columns > BESIDE + NOTE_LEAST ? columns - BESIDE : NOTE_LEAST;
    const char *rest = told;
    for (bool first = true; first || *rest != '\0'; first = false) {
        const char *line = rest;
        size_t length = output_next_line(&rest, room);
        if (!first)
            fprintf(drawing->out->to, "%20s%s %-*s%s %-10s ", "", side, BOX - 1, "", side, "");
        fprintf(drawing->out->to, "%.*s\n", (int)length, line);
    }
    free(told);
}

void document_print_addresses(const struct drawing *drawing, const json_t *section) {
    const json_t *values = json_object_get(section, "parts");
    size_t count = json_array_size(values);
    struct part *parts = tool_alloc(count, sizeof(*parts));
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_array_get(values, i);
        parts[i] = (struct part){document_member(value, "name"), document_member(value, "kind"),
                                 document_member(value, "note"),
                                 strtoull(document_member(value, "start"), NULL, 16),
                                 (uint64_t)json_integer_value(json_object_get(value, "bytes"))};
    }
    qsort(parts, count, sizeof(*parts), from_above);
    fputs("  high addresses\n", drawing->out->to);
    for (size_t i = 0; i < count; i++) {
        uint64_t end = parts[i].start + parts[i].bytes;
        uint64_t gap = i > 0 && parts[i - 1].start > end ? parts[i - 1].start - end : 0;
        print_edge(drawing, gap, i == 0, false);
        print_part(drawing, &parts[i]);
    }
    print_edge(drawing, 0, count == 0, true);
    fputs("  low addresses\n", drawing->out->to);
    free(parts);
}
