/* document_parts.h - what the files document*.c share, and nobody else needs. */
#ifndef LUCID_DOCUMENT_PARTS_H
#define LUCID_DOCUMENT_PARTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frame/frame.h"

/* How text is drawn. `rich`: colour, and characters that are not ASCII. */
struct drawing {
    struct output *out;
    bool rich;
    size_t columns; /* of the terminal; 0: there is none */
};

/* Columns that a terminal needs to show a UTF-8 text, and a text padded to them: negative `width`
 * puts the text to the left. */
size_t document_columns(const char *text);
void document_pad(const struct drawing *drawing, const char *text, int width);

/* Texts in rows and columns; row 0 has the heads. `numbers`: which columns stand to the right. */
struct document_grid {
    size_t columns, rows; /* without the heads */
    bool *numbers;
    char **cells;
};
/* The caller frees it; cells that are not set are empty. */
struct document_grid *document_grid_make(size_t columns, size_t rows);
void document_grid_set(struct document_grid *grid, size_t row, size_t column, const char *text);
/* As wide as there is room: heads and texts are broken, and what does not fit follows below. */
void document_grid_print(const struct drawing *drawing, const struct document_grid *grid);
void document_grid_free(struct document_grid *grid);

/* A number as figures of this unit ("bytes", "ns", "ratio", "") have it; "-" for null. */
struct cell document_figure(const json_t *value, const char *unit);

void document_print_heap(const struct drawing *drawing, const json_t *section);
void document_print_addresses(const struct drawing *drawing, const json_t *section);

/* A block of a frame, read from its array. */
struct drawn_block {
    uint64_t start, bytes, header, asked, age;
    const char *state; /* borrowed */
    uint64_t count;    /* blocks that it stands for */
};
struct drawn_block document_read_block(const json_t *block);

/* A copy of what a page shows, so reduced that its JSON has at most `most` bytes; it says in its
 * left_out members what is missing. The caller owns it. */
json_t *document_reduced(const json_t *root, size_t most);
/* With the flags that pages are written with. */
size_t document_bytes(const json_t *value);
#define DOCUMENT_DUMP_FLAGS (JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9))

/* A member that was made together with its section. */
const char *document_member(const json_t *section, const char *name);

#endif
