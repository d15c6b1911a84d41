/*
 * document_table.c - tables on a terminal or in a file of text: as wide as there is room, no wider.
 *
 *     wide:  allocator  held at most, bytes       heads broken:   allocator  held at
 *            first                3,224,976                                    most,
 *                                                                              bytes
 *     cells of text broken:                                       first      3,224,976
 *            of   what was measured      holds
 *            pt   malloc(128 KiB), when  yes      split: the columns that do not fit follow below,
 *                 the heap has not …              with the first one again
 *
 * These are tried in this order: heads are broken at their blanks, then cells of text are narrowed,
 * the widest first, and only then the table is split. A terminal has its width; what goes elsewhere
 * has COLUMNS as prose has, or COLUMNS_MOST if a table need not be split then.
 *
 * Figures stand to the right and are never broken; heads stand at the bottom of their lines.
 */
#include "document/document_parts.h"
#include "frame/frame.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 80, COLUMNS_MOST = 100, GAP = 2, TEXT_LEAST = 16 };

/* ------------------------------------------------------------------ grids -------------------- */

struct document_grid *document_grid_make(size_t columns, size_t rows) {
    struct document_grid *grid = tool_alloc(1, sizeof(*grid));
    grid->columns = columns;
    grid->rows = rows;
    grid->numbers = tool_alloc(columns, sizeof(bool));
    grid->cells = tool_alloc(columns * (rows + 1), sizeof(char *));
    return grid;
}

void document_grid_set(struct document_grid *grid, size_t row, size_t column, const char *text) {
    grid->cells[row * grid->columns + column] = tool_format("%s", text);
}

void document_grid_free(struct document_grid *grid) {
    for (size_t i = 0; i < grid->columns * (grid->rows + 1); i++) free(grid->cells[i]);
    free(grid->cells);
    free(grid->numbers);
    free(grid);
}

static const char *cell_at(const struct document_grid *grid, size_t row, size_t column) {
    const char *text = grid->cells[row * grid->columns + column];
    return text != NULL ? text : "";
}

/* ------------------------------------------------------------------ breaking ----------------- */

static size_t count_lines(const char *text, size_t width) {
    size_t lines = 0;
    do {
        (void)output_next_line(&text, width);
        lines++;
    } while (*text != '\0');
    return lines;
}

/* Line `which` of the text, as far as it has one; the caller frees. */
static char *line_of(const char *text, size_t width, size_t which) {
    const char *line = text;
    size_t length = output_next_line(&text, width);
    for (; which > 0; which--) {
        line = text;
        length = output_next_line(&text, width);
    }
    return tool_format("%.*s", (int)length, line);
}

static size_t longest_word(const char *text) {
    size_t most = 0;
    while (*text != '\0') {
        size_t length = strcspn(text, " ");
        char *word = tool_format("%.*s", (int)length, text);
        size_t columns = document_columns(word);
        if (columns > most) most = columns;
        free(word);
        text += length + strspn(text + length, " ");
    }
    return most;
}

/* ------------------------------------------------------------------ widths ------------------- */

/* What a column has, would like, and cannot do without. */
struct width {
    size_t now, cells, word; /* word: the longest of its head */
};

static void measure(const struct document_grid *grid, struct width *widths) {
    for (size_t c = 0; c < grid->columns; c++) {
        struct width *width = &widths[c];
        *width = (struct width){.word = longest_word(cell_at(grid, 0, c))};
        for (size_t r = 1; r <= grid->rows; r++) {
            size_t columns = document_columns(cell_at(grid, r, c));
            if (columns > width->cells) width->cells = columns;
        }
        width->now = document_columns(cell_at(grid, 0, c));
        if (width->cells > width->now) width->now = width->cells;
    }
}

/* The least width of a column, with its cells whole or broken. */
static size_t floor_of(const struct document_grid *grid, const struct width *widths, size_t column,
                       bool broken) {
    size_t least = widths[column].cells;
    if (broken && !grid->numbers[column] && least > TEXT_LEAST) least = TEXT_LEAST;
    return least > widths[column].word ? least : widths[column].word;
}

/* Some columns of a table: the first, and those from `from` up to `end`. */
struct part {
    size_t from, end;
};

static size_t column_of(const struct part *part, size_t i) {
    return i == 0 ? 0 : part->from + i - 1;
}

static size_t count_of(const struct part *part) {
    return part->end - part->from + 1;
}

static size_t width_of(const struct width *widths, const struct part *part) {
    size_t sum = 0;
    for (size_t i = 0; i < count_of(part); i++)
        sum += widths[column_of(part, i)].now + (i > 0 ? GAP : 0);
    return sum;
}

/* Narrow the columns, the widest first, until the part has `room`; false: it cannot. */
static bool narrow(const struct document_grid *grid, struct width *widths, const struct part *part,
                   size_t room, bool broken) {
    for (size_t sum = width_of(widths, part); sum > room; sum--) {
        size_t widest = SIZE_MAX;
        for (size_t i = 0; i < count_of(part); i++) {
            size_t c = column_of(part, i);
            bool can = widths[c].now > floor_of(grid, widths, c, broken);
            if (can && (widest == SIZE_MAX || widths[c].now > widths[widest].now)) widest = c;
        }
        if (widest == SIZE_MAX) return false;
        widths[widest].now--;
    }
    return true;
}

static bool fits(const struct document_grid *grid, struct width *widths, const struct part *part,
                 size_t room) {
    return narrow(grid, widths, part, room, false) || narrow(grid, widths, part, room, true);
}

/* How many columns from `from` on go beside the first one; at least one. */
static size_t end_of_part(const struct document_grid *grid, const struct width *widths, size_t from,
                          size_t room) {
    size_t sum = floor_of(grid, widths, 0, true), end = from;
    for (; end < grid->columns; end++) {
        sum += GAP + floor_of(grid, widths, end, true);
        if (sum > room && end > from) break;
    }
    return end;
}

/* ------------------------------------------------------------------ printing ----------------- */

static void print_line(const struct drawing *drawing, const struct document_grid *grid,
                       const struct width *widths, const struct part *part, size_t row, size_t line,
                       size_t lines) {
    size_t blanks = 0;
    for (size_t i = 0; i < count_of(part); i++) {
        size_t c = column_of(part, i), width = widths[c].now;
        const char *text = cell_at(grid, row, c);
        size_t own = count_lines(text, width), above = row == 0 ? lines - own : 0;
        char *shown = line >= above && line - above < own ? line_of(text, width, line - above)
                                                          : tool_format("%s", "");
        size_t columns = document_columns(shown), rest = width > columns ? width - columns : 0;
        if (i > 0) blanks += GAP;
        if (grid->numbers[c]) blanks += rest;
        if (columns > 0) { /* nothing behind the last text of a line */
            fprintf(drawing->out->to, "%*s%s", (int)blanks, "", shown);
            blanks = 0;
        }
        if (!grid->numbers[c]) blanks += rest;
        free(shown);
    }
    fputc('\n', drawing->out->to);
}

static void print_row(const struct drawing *drawing, const struct document_grid *grid,
                      const struct width *widths, const struct part *part, size_t row) {
    size_t lines = 1;
    for (size_t i = 0; i < count_of(part); i++) {
        size_t c = column_of(part, i), own = count_lines(cell_at(grid, row, c), widths[c].now);
        if (own > lines) lines = own;
    }
    for (size_t line = 0; line < lines; line++)
        print_line(drawing, grid, widths, part, row, line, lines);
}

void document_grid_print(const struct drawing *drawing, const struct document_grid *grid) {
    struct width *widths = tool_alloc(grid->columns, sizeof(*widths));
    struct part whole = {1, grid->columns};
    size_t room = drawing->columns != 0 ? drawing->columns : COLUMNS;
    measure(grid, widths);
    if (!fits(grid, widths, &whole, room) && drawing->columns == 0) {
        measure(grid, widths);
        if (fits(grid, widths, &whole, COLUMNS_MOST)) room = COLUMNS_MOST;
    }
    for (size_t from = 1; from <= grid->columns;) {
        measure(grid, widths);
        struct part part = {from, fits(grid, widths, &whole, room) ? grid->columns : 0};
        if (part.end == 0) {
            measure(grid, widths);
            part.end = end_of_part(grid, widths, from, room);
            (void)fits(grid, widths, &part, room);
        }
        if (from > 1) fputc('\n', drawing->out->to);
        for (size_t row = 0; row <= grid->rows; row++) print_row(drawing, grid, widths, &part, row);
        if (part.end == grid->columns) break;
        from = part.end;
    }
    free(widths);
}
