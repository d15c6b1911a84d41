/*
 * document_text.c - a document on a terminal or in a file of text.
 *
 *     held against live (bytes)                   a chart: a line of bars for each series, and at
 *       held  ▁▂▄▆██▆▆  4.0 KiB to 132.0 KiB      most CHART_ROWS rows of its figures
 *
 * Two looks. The rich one has colour and characters such as ▄, for terminals that show UTF-8; the
 * plain one is ASCII, for all else: files, pipes, NO_COLOR, TERM=dumb, other character sets. Tables
 * are laid out by document_table.c, heap maps and address spaces drawn by document_strips.c.
 *
 * Paragraphs whose lines begin with blanks are kept as they are; others are filled.
 */
#include "document/document.h"

#include "document/document_parts.h"
#include "frame/frame.h"

#include <langinfo.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_COLUMNS = 80, BARS = 40, CHART_ROWS = 16, TABLE_ROWS = 400 };

/* ------------------------------------------------------------------ characters --------------- */

static bool locale_has_utf8(void) {
    locale_t locale = newlocale(LC_CTYPE_MASK, "", (locale_t)0);
    if (locale == (locale_t)0) return false;
    bool utf8 = strcmp(nl_langinfo_l(CODESET, locale), "UTF-8") == 0;
    freelocale(locale);
    return utf8;
}

size_t document_columns(const char *text) {
    size_t columns = 0;
    for (const char *c = text; *c != '\0'; c++) columns += ((unsigned char)*c & 0xc0) != 0x80;
    return columns;
}

void document_pad(const struct drawing *drawing, const char *text, int width) {
    int blanks = abs(width) - (int)document_columns(text);
    if (width > 0) fprintf(drawing->out->to, "%*s", blanks > 0 ? blanks : 0, "");
    fputs(text, drawing->out->to);
    if (width < 0) fprintf(drawing->out->to, "%*s", blanks > 0 ? blanks : 0, "");
}

static void print_title(const struct drawing *drawing, const char *title) {
    fprintf(drawing->out->to, "%s%s%s\n", output_bold(drawing->out), title,
            output_plain(drawing->out));
}

/* ------------------------------------------------------------------ figures ------------------ */

/* Three places are enough for people. */
static struct cell plain_figure(const json_t *value) {
    struct cell cell;
    double number = json_number_value(value);
    if (json_is_integer(value) || fabs(number) >= 1000) return cell_count(number);
    snprintf(cell.text, sizeof(cell.text), "%.3g", number);
    return cell;
}

struct cell document_figure(const json_t *value, const char *unit) {
    struct cell cell = {"-"};
    if (!json_is_number(value)) return cell;
    double number = json_number_value(value);
    if (strcmp(unit, "bytes") == 0 && number >= 0) return cell_bytes(number);
    if (strcmp(unit, "ratio") == 0) {
        snprintf(cell.text, sizeof(cell.text), "%.3f", number);
        return cell;
    }
    if (strcmp(unit, "ns") == 0) {
        const char *units[] = {"ns", "us", "ms", "s"};
        size_t at = 0;
        while (fabs(number) >= 1000 && at + 1 < TOOL_COUNT_OF(units)) {
            number /= 1000;
            at++;
        }
        snprintf(cell.text, sizeof(cell.text), "%.4g %s", number, units[at]);
        return cell;
    }
    return plain_figure(value);
}

/* ------------------------------------------------------------------ text --------------------- */

/* One filled paragraph, up to `end`. */
static void fill(FILE *to, const char *text, const char *end) {
    size_t column = 0;
    while (text < end) {
        size_t blanks = strspn(text, " \n\t");
        if (text + blanks >= end) break;
        const char *word = text + blanks;
        size_t length = strcspn(word, " \n\t");
        if (length > (size_t)(end - word)) length = (size_t)(end - word);
        char *copy = strndup(word, length);
        if (copy == NULL) tool_die("out of memory");
        size_t columns = document_columns(copy);
        bool breaks = column != 0 && column + 1 + columns > LINE_COLUMNS;
        if (breaks) fputc('\n', to);
        if (breaks || column == 0) {
            column = columns;
        } else {
            fputc(' ', to);
            column += 1 + columns;
        }
        fputs(copy, to);
        free(copy);
        text = word + length;
    }
    fputc('\n', to);
}

static void print_text(const struct drawing *drawing, const char *text) {
    FILE *to = drawing->out->to;
    while (*text != '\0') {
        const char *end = strstr(text, "\n\n");
        if (end == NULL) end = text + strlen(text);
        if (*text == ' ') {
            fprintf(to, "%.*s\n", (int)(end - text), text);
        } else {
            fill(to, text, end);
        }
        text = end + strspn(end, "\n");
        if (*text != '\0') fputc('\n', to);
    }
}

/* ------------------------------------------------------------------ tables ------------------- */

/* As it was written, so that a column of ratios has the same places; large ones as counts. */
static struct cell number_cell(const json_t *value) {
    struct cell cell;
    if (json_is_integer(value) || fabs(json_real_value(value)) >= 1000) return plain_figure(value);
    snprintf(cell.text, sizeof(cell.text), "%.6g", json_real_value(value));
    return cell;
}

static bool is_short(const json_t *cell) {
    return document_columns(json_string_value(cell)) <= 1;
}

/* A column is one of numbers if it has one, and no text but short marks ("-", ""). */
static bool has_numbers(const json_t *rows, size_t column) {
    bool numbers = false;
    size_t index;
    json_t *row;
    json_array_foreach(rows, index, row) {
        const json_t *cell = json_array_get(row, column);
        if (json_is_string(cell) && !is_short(cell)) return false;
        numbers |= json_is_number(cell);
    }
    return numbers;
}

static void set_cell(struct document_grid *grid, size_t row, size_t column, const json_t *cell) {
    const char *text = json_string_value(cell);
    document_grid_set(grid, row, column, text != NULL ? text : number_cell(cell).text);
}

static void print_table(const struct drawing *drawing, const json_t *section) {
    const json_t *columns = json_object_get(section, "columns");
    const json_t *rows = json_object_get(section, "rows");
    size_t row_count = json_array_size(rows), shown = row_count;
    if (shown > TABLE_ROWS) shown = TABLE_ROWS;
    struct document_grid *grid = document_grid_make(json_array_size(columns), shown);
    for (size_t c = 0; c < grid->columns; c++) {
        grid->numbers[c] = has_numbers(rows, c);
        set_cell(grid, 0, c, json_array_get(columns, c));
        for (size_t r = 0; r < shown; r++)
            set_cell(grid, r + 1, c, json_array_get(json_array_get(rows, r), c));
    }
    print_title(drawing, document_member(section, "title"));
    document_grid_print(drawing, grid);
    document_grid_free(grid);
    if (row_count > shown)
        fprintf(drawing->out->to, "(%s further rows: --json has them)\n",
                cell_count((double)(row_count - shown)).text);
}

/* ------------------------------------------------------------------ charts ------------------- */

/* The largest value of the values that fall on one bar; NAN if there is none. */
static double bar_value(const json_t *values, size_t bar, size_t bars) {
    size_t count = json_array_size(values);
    double most = NAN;
    for (size_t i = bar * count / bars; i < (bar + 1) * count / bars; i++)
        most = fmax(most, json_is_number(json_array_get(values, i))
                              ? json_number_value(json_array_get(values, i))
                              : NAN);
    return most;
}

static void print_bars(const struct drawing *drawing, const json_t *values, double most) {
    static const char *const rich[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    static const char *const plain[] = {" ", ".", ":", "-", "=", "+", "*", "#", "@"};
    size_t count = json_array_size(values), bars = count < BARS ? count : BARS;
    if (drawing->rich) fputs("\033[34m", drawing->out->to);
    for (size_t bar = 0; bar < bars; bar++) {
        double value = bar_value(values, bar, bars);
        size_t level = 0;
        if (!isnan(value)) level = 1 + (size_t)(most > 0 && value > 0 ? value / most * 7 : 0);
        fputs((drawing->rich ? rich : plain)[level], drawing->out->to);
    }
    fputs(output_plain(drawing->out), drawing->out->to);
}

struct extent {
    double least, most;
};

static struct extent extent_of(const json_t *values) {
    struct extent extent = {NAN, NAN};
    size_t index;
    json_t *value;
    json_array_foreach(values, index, value) {
        if (!json_is_number(value)) continue;
        extent.least = fmin(extent.least, json_number_value(value));
        extent.most = fmax(extent.most, json_number_value(value));
    }
    return extent;
}

static struct cell figure_of(double value, const char *unit) {
    json_t *number = isnan(value)            ? json_null()
                     : value == trunc(value) ? json_integer((json_int_t)value)
                                             : json_real(value);
    struct cell cell = document_figure(number, unit);
    json_decref(number);
    return cell;
}

/* All series have one scale, so that they can be compared. */
static void print_all_bars(const struct drawing *drawing, const json_t *series, const char *unit) {
    double most = NAN;
    int width = 0;
    size_t index;
    json_t *one;
    json_array_foreach(series, index, one) {
        int columns = (int)document_columns(document_member(one, "name"));
        most = fmax(most, extent_of(json_object_get(one, "values")).most);
        width = columns > width ? columns : width;
    }
    json_array_foreach(series, index, one) {
        const json_t *values = json_object_get(one, "values");
        struct extent extent = extent_of(values);
        fputs("  ", drawing->out->to);
        document_pad(drawing, document_member(one, "name"), -width);
        fputs("  ", drawing->out->to);
        print_bars(drawing, values, most);
        fprintf(drawing->out->to, "  %s to %s\n", figure_of(extent.least, unit).text,
                figure_of(extent.most, unit).text);
    }
}

static void print_figures(const struct drawing *drawing, const json_t *section, const char *unit) {
    const json_t *across = json_object_get(section, "x"), *x = json_object_get(across, "values");
    const json_t *series = json_object_get(section, "series");
    size_t count = json_array_size(x), rows = count < CHART_ROWS ? count : CHART_ROWS;
    struct document_grid *grid = document_grid_make(json_array_size(series) + 1, rows);
    document_grid_set(grid, 0, 0, document_member(across, "label"));
    for (size_t c = 0; c < grid->columns; c++) {
        const json_t *one = json_array_get(series, c - 1);
        const json_t *values = c > 0 ? json_object_get(one, "values") : x;
        grid->numbers[c] = true;
        if (c > 0) document_grid_set(grid, 0, c, document_member(one, "name"));
        for (size_t row = 0; row < rows; row++) {
            size_t at = rows < 2 ? row : row * (count - 1) / (rows - 1);
            const json_t *value = json_array_get(values, at);
            document_grid_set(grid, row + 1, c, document_figure(value, c > 0 ? unit : "").text);
        }
    }
    document_grid_print(drawing, grid);
    document_grid_free(grid);
    if (rows < count)
        fprintf(drawing->out->to, "(%zu of %s points: --json has all)\n", rows,
                cell_count((double)count).text);
}

static void print_chart(const struct drawing *drawing, const json_t *section) {
    const json_t *up = json_object_get(section, "y");
    const char *unit = document_member(up, "unit"), *label = document_member(up, "label");
    print_title(drawing, document_member(section, "title"));
    fprintf(drawing->out->to, "%s%s%s%s\n", label, unit[0] != '\0' ? " (" : "", unit,
            unit[0] != '\0' ? ")" : "");
    print_all_bars(drawing, json_object_get(section, "series"), unit);
    print_figures(drawing, section, unit);
}

/* ------------------------------------------------------------------ document ----------------- */

static void print_section(const struct drawing *drawing, const json_t *section) {
    const char *type = document_member(section, "type");
    if (strcmp(type, "text") == 0) {
        print_text(drawing, document_member(section, "text"));
    } else if (strcmp(type, "table") == 0) {
        print_table(drawing, section);
    } else if (strcmp(type, "chart") == 0) {
        print_chart(drawing, section);
    } else {
        print_title(drawing, document_member(section, "title"));
        bool heap = strcmp(type, "heap") == 0;
        (heap ? document_print_heap : document_print_addresses)(drawing, section);
    }
    const char *missing = document_member(section, "left_out");
    if (missing[0] != '\0') fprintf(drawing->out->to, "Left out: %s.\n", missing);
}

void document_print(struct document *document, struct output *out) {
    const json_t *root = document_json(document);
    struct drawing drawing = {out, out->colour && locale_has_utf8(), output_columns(out)};
    size_t index;
    json_t *section;
    print_title(&drawing, document_member(root, "title"));
    json_array_foreach(json_object_get(root, "sections"), index, section) {
        fputc('\n', out->to);
        print_section(&drawing, section);
    }
}
