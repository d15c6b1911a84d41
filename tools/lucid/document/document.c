/*
 * document.c - builds documents: every function adds to one JSON value, which is the document.
 *
 *     document_heap(d, "first fit", "first")      sections: […, {"type": "heap", …, "frames": []}]
 *     document_frame(d, 12, 4096, 100)                 frames: […, {"event": 12, …, "blocks": []}]
 *     document_block(d, &block)                             blocks: […, [0, 32, 16, 10, "used", 3]]
 *
 * There is no second form of it: what prints, and what writes pages, reads the JSON again. `last`
 * is the section that grows; a call that does not fit its type is a mistake of the caller and ends
 * the command.
 *
 * JSON has no infinity and no NAN: they become null. It has only Unicode: bytes that are not UTF-8
 * (names of files may be anything) become '?'.
 */
#include "document/document.h"

#include "document/document_parts.h"
#include "frame/frame.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA "lucid-document/1"
#define EXACT 9007199254740992.0 /* doubles below are exact integers */

struct document {
    json_t *root;
    json_t *sections; /* borrowed from root */
    json_t *last;     /* borrowed; NULL before the first section */
    json_t *blocks;   /* of the last frame, borrowed; NULL without one */
};

/* ------------------------------------------------------------------ values ------------------- */

static json_t *need(json_t *value) {
    if (value == NULL) tool_die("out of memory");
    return value;
}

static json_t *text_of(const char *text) {
    json_t *value = json_string(text);
    if (value != NULL) return value;
    char *copy = tool_format("%s", text);
    for (char *c = copy; *c != '\0'; c++)
        if ((unsigned char)*c >= 0x80) *c = '?';
    value = need(json_string(copy));
    free(copy);
    return value;
}

static json_t *integer_of(uint64_t number) {
    return need(json_integer((json_int_t)number));
}

static json_t *number_of(double number) {
    if (!isfinite(number)) return need(json_null());
    bool whole = number == trunc(number) && fabs(number) < EXACT;
    return need(whole ? json_integer((json_int_t)number) : json_real(number));
}

/* Both take `value` over. */
static void set(json_t *object, const char *key, json_t *value) {
    if (json_object_set_new(object, key, value) != 0) tool_die("out of memory");
}

static void append(json_t *array, json_t *value) {
    if (json_array_append_new(array, value) != 0) tool_die("out of memory");
}

static char *format_text(const char *format, va_list args) __attribute__((format(printf, 1, 0)));
static char *format_text(const char *format, va_list args) {
    char *text;
    if (vasprintf(&text, format, args) < 0) tool_die("out of memory");
    return text;
}

/* A decimal number as people write it, or text: "0x10", "007", "inf" and "" are text. */
static json_t *cell_of_text(const char *text) {
    const char *digits = text[0] == '-' ? text + 1 : text;
    size_t plain = strspn(digits, "0123456789");
    if (plain == 0 || (digits[0] == '0' && plain > 1) ||
        strspn(digits, "0123456789.eE+-") != strlen(digits))
        return text_of(text);
    char *end;
    if (digits[plain] == '\0') {
        errno = 0;
        long long whole = strtoll(text, &end, 10);
        if (errno == 0) return need(json_integer(whole));
    }
    double number = strtod(text, &end);
    return *end == '\0' && isfinite(number) ? need(json_real(number)) : text_of(text);
}

/* "a | b|c" without the blanks around. */
static json_t *cells_of_text(char *text, bool numbers) {
    json_t *cells = need(json_array());
    for (char *rest = text, *cell; (cell = strsep(&rest, "|")) != NULL;) {
        cell += strspn(cell, " ");
        size_t length = strlen(cell);
        while (length > 0 && cell[length - 1] == ' ') cell[--length] = '\0';
        append(cells, numbers ? cell_of_text(cell) : text_of(cell));
    }
    return cells;
}

/* ------------------------------------------------------------------ document ----------------- */

struct document *document_create(const char *title) {
    struct document *document = tool_alloc(1, sizeof(*document));
    document->root = need(json_object());
    document->sections = need(json_array());
    set(document->root, "schema", text_of(SCHEMA));
    set(document->root, "title", text_of(title));
    set(document->root, "sections", document->sections);
    return document;
}

void document_destroy(struct document *document) {
    json_decref(document->root);
    free(document);
}

json_t *document_json(struct document *document) {
    return document->root;
}

static json_t *add_section(struct document *document, const char *type, const char *title) {
    document->last = need(json_object());
    document->blocks = NULL;
    append(document->sections, document->last);
    set(document->last, "type", text_of(type));
    if (title != NULL) set(document->last, "title", text_of(title));
    return document->last;
}

const char *document_member(const json_t *section, const char *name) {
    const char *text = json_string_value(json_object_get(section, name));
    return text != NULL ? text : "";
}

/* The section that grows, which must be of this type. */
static json_t *grown(const struct document *document, const char *type, const char *what) {
    if (document->last == NULL || strcmp(document_member(document->last, "type"), type) != 0)
        tool_die("a %s does not belong to a section that is no %s", what, type);
    return document->last;
}

/* ------------------------------------------------------------------ sections ----------------- */

void document_text(struct document *document, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *text = format_text(format, args);
    va_end(args);
    set(add_section(document, "text", NULL), "text", text_of(text));
    free(text);
}

void document_table(struct document *document, const char *title, const char *columns) {
    json_t *section = add_section(document, "table", title);
    char *copy = tool_format("%s", columns);
    set(section, "columns", cells_of_text(copy, false));
    set(section, "rows", need(json_array()));
    free(copy);
}

void document_row(struct document *document, const char *format, ...) {
    json_t *section = grown(document, "table", "row");
    va_list args;
    va_start(args, format);
    char *text = format_text(format, args);
    va_end(args);
    json_t *cells = cells_of_text(text, true);
    free(text);
    size_t columns = json_array_size(json_object_get(section, "columns"));
    if (json_array_size(cells) > columns)
        tool_die("a row of %zu cells in a table of %zu columns", json_array_size(cells), columns);
    while (json_array_size(cells) < columns) append(cells, text_of(""));
    append(json_object_get(section, "rows"), cells);
}

static json_t *numbers_of(const double *values, size_t count) {
    json_t *array = need(json_array());
    for (size_t i = 0; i < count; i++) append(array, number_of(values[i]));
    return array;
}

void document_chart(struct document *document, const char *title, const char *x_label,
                    const char *y_label, const char *y_unit, const double *x, size_t count) {
    json_t *section = add_section(document, "chart", title);
    json_t *across = need(json_object()), *up = need(json_object());
    set(across, "label", text_of(x_label));
    set(across, "values", numbers_of(x, count));
    set(up, "label", text_of(y_label));
    set(up, "unit", text_of(y_unit));
    set(section, "x", across);
    set(section, "y", up);
    set(section, "series", need(json_array()));
}

void document_series(struct document *document, const char *name, const double *values,
                     size_t count) {
    json_t *section = grown(document, "chart", "series");
    size_t wanted = json_array_size(json_object_get(json_object_get(section, "x"), "values"));
    if (count != wanted) tool_die("a series of %zu values on an axis of %zu", count, wanted);
    json_t *series = need(json_object());
    set(series, "name", text_of(name));
    set(series, "values", numbers_of(values, count));
    append(json_object_get(section, "series"), series);
}

void document_heap(struct document *document, const char *title, const char *allocator) {
    json_t *section = add_section(document, "heap", title);
    set(section, "allocator", text_of(allocator));
    set(section, "frames", need(json_array()));
    set(section, "left_out", need(json_null()));
}

void document_frame(struct document *document, uint64_t event, uint64_t held, uint64_t live) {
    json_t *section = grown(document, "heap", "frame");
    json_t *frame = need(json_object());
    document->blocks = need(json_array());
    set(frame, "event", integer_of(event));
    set(frame, "held", integer_of(held));
    set(frame, "live", integer_of(live));
    set(frame, "blocks", document->blocks);
    append(json_object_get(section, "frames"), frame);
}

void document_frame_call(struct document *document, const char *format, ...) {
    const json_t *frames = json_object_get(grown(document, "heap", "call"), "frames");
    size_t count = json_array_size(frames);
    if (count == 0) tool_die("a call does not belong to a heap without frame");
    va_list args;
    va_start(args, format);
    char *text = format_text(format, args);
    va_end(args);
    set(json_array_get(frames, count - 1), "call", text_of(text));
    free(text);
}

void document_block(struct document *document, const struct document_block *block) {
    if (document->blocks == NULL) tool_die("a block does not belong to a section without frame");
    json_t *cells = need(json_array());
    append(cells, integer_of(block->start));
    append(cells, integer_of(block->bytes));
    append(cells, integer_of(block->header));
    append(cells, integer_of(block->asked));
    append(cells, text_of(block->state));
    append(cells, integer_of(block->age));
    append(document->blocks, cells);
}

struct drawn_block document_read_block(const json_t *block) {
    uint64_t numbers[7] = {0};
    for (size_t i = 0; i < 7; i++)
        numbers[i] = (uint64_t)json_integer_value(json_array_get(block, i));
    const char *state = json_string_value(json_array_get(block, 4));
    uint64_t count = json_array_size(block) > 6 ? numbers[6] : 1;
    return (struct drawn_block){.start = numbers[0],
                                .bytes = numbers[1],
                                .header = numbers[2],
                                .asked = numbers[3],
                                .age = numbers[5],
                                .state = state != NULL ? state : "",
                                .count = count};
}

void document_left_out(struct document *document, const char *format, ...) {
    if (document->last == NULL) tool_die("nothing can be left out of an empty document");
    va_list args;
    va_start(args, format);
    char *text = format_text(format, args);
    va_end(args);
    const char *before = document_member(document->last, "left_out");
    char *both = tool_format("%s%s%s", before, before[0] != '\0' ? "; " : "", text);
    set(document->last, "left_out", text_of(both));
    free(both);
    free(text);
}

void document_addresses(struct document *document, const char *title) {
    json_t *section = add_section(document, "addresses", title);
    set(section, "parts", need(json_array()));
}

void document_part(struct document *document, const char *name, uint64_t start, uint64_t bytes,
                   const char *kind, const char *note) {
    json_t *section = grown(document, "addresses", "part");
    json_t *part = need(json_object());
    char *address = tool_format("0x%llx", (unsigned long long)start);
    set(part, "name", text_of(name));
    set(part, "start", text_of(address));
    set(part, "bytes", integer_of(bytes));
    set(part, "kind", text_of(kind));
    set(part, "note", text_of(note));
    free(address);
    append(json_object_get(section, "parts"), part);
}
