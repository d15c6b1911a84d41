/*
 * output.c - terminals, colours, numbers.
 *
 * Habits of the usual tools: colours only on a terminal and not when NO_COLOR is set to anything
 * but the empty text (no-color.org); progress only on a terminal; sizes in powers of 1024 with
 * their unit; counts with thousands separators in every locale, so that two reports can be
 * compared as text.
 */
#include "frame/frame.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { COLUMNS_LEAST = 40 };

static bool wants_colour(FILE *file) {
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    if (no_color != NULL && no_color[0] != '\0') return false;
    return isatty(fileno(file)) && term != NULL && strcmp(term, "dumb") != 0;
}

void output_open(struct output *out, const char *path, bool force, FILE *standard) {
    out->to = standard;
    if (path != NULL) {
        out->to = fdopen(tool_create_file(path, force), "w");
        if (out->to == NULL) tool_die("out of memory");
    }
    out->colour = wants_colour(out->to);
}

void output_close(struct output *out) {
    bool failed = fflush(out->to) != 0 || ferror(out->to);
    if (out->to != stdout && out->to != stderr) failed |= fclose(out->to) != 0;
    if (failed) tool_die("cannot write the report");
}

void output_json(struct output *out, const json_t *value) {
    if (json_dumpf(value, out->to, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) != 0)
        tool_die("cannot write the report");
    fputc('\n', out->to);
}

size_t output_columns(const struct output *out) {
    struct winsize size;
    int fd = fileno(out->to);
    if (!isatty(fd) || ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 0;
    return size.ws_col < COLUMNS_LEAST ? COLUMNS_LEAST : size.ws_col;
}

/* Bytes of the first `columns` characters. */
static size_t bytes_of(const char *text, size_t columns) {
    size_t at = 0;
    while (text[at] != '\0' && (columns > 0 || ((unsigned char)text[at] & 0xc0) == 0x80)) {
        columns -= ((unsigned char)text[at] & 0xc0) != 0x80;
        at++;
    }
    return at;
}

size_t output_next_line(const char **text, size_t width) {
    const char *line = *text;
    size_t most = bytes_of(line, width), length = most;
    if (line[most] != '\0') {
        while (length > 0 && line[length] != ' ') length--;
        if (length == 0) length = most; /* a word that is too long */
    }
    *text = line + length + strspn(line + length, " ");
    return length;
}

const char *output_bold(const struct output *out) {
    return out->colour ? "\033[1m" : "";
}

const char *output_tint(const struct output *out, double ratio) {
    if (!out->colour || isnan(ratio)) return "";
    return ratio < 0.97 ? "\033[32m" : ratio > 1.03 ? "\033[31m" : "";
}

const char *output_plain(const struct output *out) {
    return out->colour ? "\033[0m" : "";
}

static struct cell cell_of(const char *format, ...) __attribute__((format(printf, 1, 2)));
static struct cell cell_of(const char *format, ...) {
    struct cell cell;
    va_list args;
    va_start(args, format);
    vsnprintf(cell.text, sizeof(cell.text), format, args);
    va_end(args);
    return cell;
}

struct cell cell_seconds(double seconds) {
    if (seconds < 1) return cell_of("%.2f ms", seconds * 1e3);
    return cell_of("%.3f s", seconds);
}

struct cell cell_bytes(double bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit = 0;
    while (bytes >= 1024 && unit + 1 < TOOL_COUNT_OF(units)) {
        bytes /= 1024;
        unit++;
    }
    return cell_of("%.*f %s", unit == 0 ? 0 : 1, bytes, units[unit]);
}

struct cell cell_count(double count) {
    struct cell digits = cell_of("%.0f", fabs(count));
    struct cell cell = {""};
    size_t length = strlen(digits.text);
    size_t at = 0;
    if (count < 0) cell.text[at++] = '-';
    for (size_t i = 0; i < length && at + 2 < sizeof(cell.text); i++) {
        cell.text[at++] = digits.text[i];
        size_t left = length - i - 1;
        if (left != 0 && left % 3 == 0) cell.text[at++] = ',';
    }
    cell.text[at] = '\0';
    return cell;
}

struct cell cell_ratio(double ratio) {
    return isnan(ratio) ? cell_of("-") : cell_of("%.2f", ratio);
}

double output_ratio(double a, double b) {
    return b != 0 ? a / b : NAN;
}

void output_progress(const char *format, ...) {
    if (!isatty(STDERR_FILENO)) return;
    va_list args;
    va_start(args, format);
    fputs("\r\033[K", stderr);
    vfprintf(stderr, format, args);
    va_end(args);
    fflush(stderr);
}

void output_progress_end(void) {
    if (isatty(STDERR_FILENO)) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
}
