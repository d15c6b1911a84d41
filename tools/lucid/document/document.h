/*
 * document.h - what an experiment or a replay has to show: sections of text, tables, charts, heap
 * maps and address spaces, built once and then written as JSON, as text for a terminal, or as one
 * HTML file that needs no network.
 *
 * The JSON is the document itself:
 *
 *     {"schema": "lucid-document/1", "title": T, "sections": [SECTION…]}
 *
 *     {"type": "text", "text": T}
 *     {"type": "table", "title": T, "columns": [T…], "rows": [[cell…]…]}     cells: text or number
 *     {"type": "chart", "title": T, "x": {"label": T, "values": [n…]},
 *      "y": {"label": T, "unit": U}, "series": [{"name": T, "values": [n or null…]}…]}
 *                         unit: "bytes" "ns" "ratio" ""
 *     {"type": "heap", "title": T, "allocator": T, "frames": [{"event": n, "held": n, "live": n,
 *      "blocks": [[start, bytes, header, asked, state, age]…]}…], "left_out": T or null}
 *                         a frame may have "call": T, the call that it is after
 *                         start counts from the area's base; state: "used" "free" "cached" "top"
 *                         "meta"; age in events; what is lost inside is bytes - header - asked
 *     {"type": "addresses", "title": T, "parts": [{"name": T, "start": "0x…", "bytes": n,
 *      "kind": K, "note": T}…]}    kind: text data bss heap mapping stack kernel other; any order
 *
 * In the document that a page holds, which may be reduced, every section may have "left_out", and a
 * block a seventh number: how many blocks were put together in it; their age is the oldest one's.
 *
 * Every function that takes text copies it. Nothing here fails: without memory the command ends.
 */
#ifndef LUCID_DOCUMENT_H
#define LUCID_DOCUMENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frame/frame.h"

struct document; /* a builder; one owner */

struct document *document_create(const char *title);
void document_destroy(struct document *document);

/* Paragraphs are parted by empty lines, and filled; those whose lines begin with blanks are kept as
 * they are. */
void document_text(struct document *document, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A table grows by rows: `columns` and the cells of each row are parted by '|'; a cell that is a
 * number becomes one. */
void document_table(struct document *document, const char *title, const char *columns);
void document_row(struct document *document, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A chart grows by x values and series; a series has as many values as there are x values, NAN
 * where there is none. Returns nothing: the section that grows is always the last one. */
void document_chart(struct document *document, const char *title, const char *x_label,
                    const char *y_label, const char *y_unit, const double *x, size_t count);
void document_series(struct document *document, const char *name, const double *values,
                     size_t count);

/* A heap map grows by frames, a frame by blocks. */
void document_heap(struct document *document, const char *title, const char *allocator);
void document_frame(struct document *document, uint64_t event, uint64_t held, uint64_t live);
/* Say which call the frame is after, as "malloc(24) = +0x40". */
void document_frame_call(struct document *document, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
struct document_block {
    uint64_t start, bytes, header, asked, age;
    const char *state;
};
void document_block(struct document *document, const struct document_block *block);
/* Say what of it was left out to keep the page small. */
void document_left_out(struct document *document, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

void document_addresses(struct document *document, const char *title);
void document_part(struct document *document, const char *name, uint64_t start, uint64_t bytes,
                   const char *kind, const char *note);

/* The whole as JSON, borrowed; further members ("results", …) may be set on it. */
json_t *document_json(struct document *document);

/* For people: text, tables, charts as columns of figures, heap maps as strips of characters with
 * their legend (Unicode blocks and colour where the terminal has them, "#.-" otherwise). */
void document_print(struct document *document, struct output *out);
/* One self-contained page, its data reduced to 5 MB. A file that exists, unless `force`, or cannot
 * be made is bad input. */
void document_write_html(struct document *document, const char *path, bool force);

#endif
