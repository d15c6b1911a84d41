/* output.h - where reports go, and how numbers look in them. */
#ifndef LUCID_OUTPUT_H
#define LUCID_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct output {
    FILE *to;
    bool colour; /* `to` is a terminal, and neither NO_COLOR nor TERM=dumb forbids it */
};

/* `path` NULL: `standard`. Ends the program if the file cannot be made, or is there already and not
 * to be overwritten by `force`. */
void output_open(struct output *out, const char *path, bool force, FILE *standard);
/* Dies if something could not be written. */
void output_close(struct output *out);
void output_json(struct output *out, const json_t *value);

/* "" without colour. */
const char *output_bold(const struct output *out);
/* Of a ratio where less is better: green below 0.97, red above 1.03. */
const char *output_tint(const struct output *out, double ratio);
const char *output_plain(const struct output *out);

/* One short text; cells are passed by value so that several fit in one expression. */
struct cell {
    char text[32];
};
struct cell cell_seconds(double seconds); /* "1.234 s", "56.78 ms"         */
struct cell cell_bytes(double bytes);     /* "12.3 MiB"   */
struct cell cell_count(double count);     /* "1,234,567"  */
struct cell cell_ratio(double ratio);     /* "0.97", "-" if it is not a number */
/* a / b; not a number where b is 0. */
double output_ratio(double a, double b);

/* A line on stderr that the next one replaces; nothing if stderr is no terminal. */
void output_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));
void output_progress_end(void);

#endif
