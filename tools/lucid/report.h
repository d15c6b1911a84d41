/* report.h - what `lucid run` found, as text and as JSON. */
#ifndef LUCID_REPORT_H
#define LUCID_REPORT_H

#include "child.h"
#include "output.h"
#include "statfiles.h"

/* One allocator's run. */
struct run {
    const struct allocator *allocator;
    struct child_result result;
    bool counted; /* `counts` is there */
    struct child_counts counts;
    int counted_exit_status;
    struct statfiles_choice stats;
};

/* `runs[0]` is the one asked for; the others are what it is set against. */
struct run_report {
    char *const *command;
    const struct run *runs;
    size_t run_count;
};

void report_text(struct output *out, const struct run_report *report);
/* A new reference; schema "lucid-run-1". */
json_t *report_json(const struct run_report *report);

/* Parts that `lucid compare` has as well. */
void report_command(struct output *out, const char *title, char *const *command);
json_t *report_result_json(const struct child_result *result);
json_t *report_command_json(char *const *command);

#endif
