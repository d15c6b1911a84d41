/* report.h - what `lucid run` found, as text and as JSON. */
#ifndef LUCID_REPORT_H
#define LUCID_REPORT_H

#include "frame/frame.h"
#include "run/child.h"
#include "run/statfiles.h"

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

#endif
