/*
 * replay_report.c - what a replay has to show, as a document (document.h): what the trace is,
 * tables of memory and work, charts with all allocators on the same axes, a map of each simulated
 * heap, and the time at the end. Only the table "Time" differs between two replays on simulated
 * allocators.
 */
#include "replay/replay_parts.h"

#include "frame/frame.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LLU(x) ((unsigned long long)(x))

/* ------------------------------------------------------------------ tables ------------------- */

static struct cell ratio_cell(double ratio) {
    struct cell cell = {"-"};
    if (!isnan(ratio)) snprintf(cell.text, sizeof(cell.text), "%.4f", ratio);
    return cell;
}

static struct cell count_cell(bool known, uint64_t count) {
    struct cell cell = {"-"};
    if (known) snprintf(cell.text, sizeof(cell.text), "%llu", LLU(count));
    return cell;
}

/* How many bytes of it; "-" where the run did not come so far. */
static struct cell reached_cell(const struct replay_outcome *outcome, uint64_t bytes) {
    return count_cell(!outcome->stopped, bytes);
}

static void add_memory(struct document *document, const struct replay_report *report) {
    document_table(document, "Memory",
                   "allocator|held at most, bytes|resident at most, bytes|live at most, bytes|"
                   "utilisation|"
                   "held at the end, bytes|live at the end, bytes|internal, mean|external, mean|"
                   "refused");
    for (size_t i = 0; i < report->target_count; i++) {
        const struct replay_outcome *o = report->targets[i].outcome;
        document_row(document, "%s|%llu|%llu|%llu|%s|%s|%llu|%s|%s|%llu", report->targets[i].name,
                     LLU(o->peak_held), LLU(o->peak_resident), LLU(report->program->peak_live),
                     ratio_cell(replay_utilisation(report->program, o)).text,
                     reached_cell(o, o->final_held).text, LLU(report->program->final_live),
                     ratio_cell(replay_mean_internal(o)).text,
                     ratio_cell(replay_mean_external(o)).text, LLU(o->failures));
    }
}

static void add_work(struct document *document, const struct replay_report *report) {
    document_table(document, "Work",
                   "allocator|searches|searches per operation|steps of free|"
                   "steps of free per operation|splits|merges|break moves|"
                   "mappings made|mappings ended|system calls for memory");
    for (size_t i = 0; i < report->target_count; i++) {
        const struct replay_target *target = &report->targets[i];
        const struct replay_counts *counts = &target->outcome->counts;
        bool walked = target->kind == REPLAY_CLASSIC;
        double events = walked ? (double)target->outcome->events : NAN;
        document_row(document, "%s|%s|%s|%s|%s|%s|%s|%s|%s|%s|%s", target->name,
                     count_cell(walked, counts->searches).text,
                     ratio_cell(output_ratio((double)counts->searches, events)).text,
                     count_cell(walked, counts->free_steps).text,
                     ratio_cell(output_ratio((double)counts->free_steps, events)).text,
                     count_cell(walked, counts->splits).text,
                     count_cell(walked, counts->merges).text,
                     count_cell(walked, counts->break_moves).text,
                     count_cell(walked, counts->maps).text, count_cell(walked, counts->unmaps).text,
                     count_cell(target->kind != REPLAY_PROCESS, counts->system_calls).text);
    }
}

static void explain_work(struct document *document, const struct replay_report *report) {
    bool walked = false;
    for (size_t i = 0; i < report->target_count; i++)
        walked |= report->targets[i].kind == REPLAY_CLASSIC;
    if (!walked) return;
    document_text(document,
                  "Searches are free blocks (bins, slabs) that were looked at for an allocation; "
                  "steps of free are the blocks passed to find the place, in a list by address or "
                  "in a tree, of a block that becomes free.");
}

static void add_time(struct document *document, const struct replay_report *report) {
    document_table(document, "Time", "allocator|runs|seconds|ns per event");
    for (size_t i = 0; i < report->target_count; i++) {
        const struct replay_outcome *o = report->targets[i].outcome;
        document_row(document, "%s|%u|%.6f|%.1f", report->targets[i].name, report->repeats,
                     o->seconds, o->events > 0 ? o->seconds * 1e9 / (double)o->events : 0);
    }
}

/* ------------------------------------------------------------------ charts ------------------- */

typedef double value_fn(const struct replay_sample *sample);

static double held_of(const struct replay_sample *sample) {
    return (double)sample->held;
}

static double resident_of(const struct replay_sample *sample) {
    return (double)sample->resident;
}

static double live_of(const struct replay_sample *sample) {
    return (double)sample->live;
}

static double lost_of(const struct replay_sample *sample) {
    if (sample->held == 0) return NAN;
    double lost = 1 - (double)sample->live / (double)sample->held;
    return lost > 0 ? lost : 0; /* resident memory may be less than what is asked for */
}

static double internal_of(const struct replay_sample *sample) {
    return sample->internal;
}

static double external_of(const struct replay_sample *sample) {
    return sample->external;
}

/* Of all samples that there should be; NAN for those that a run that broke off has not. The caller
 * frees. */
static double *values_of(const struct replay_report *report, const struct replay_outcome *outcome,
                         value_fn *value, bool *known) {
    double *values = tool_alloc(report->program->sample_count, sizeof(double));
    *known = false;
    for (uint64_t i = 0; i < report->program->sample_count; i++) {
        values[i] = i < outcome->sample_count ? value(&outcome->samples[i]) : NAN;
        if (!isnan(values[i])) *known = true;
    }
    return values;
}

/* The run that came furthest, with the fewest refusals: its events and live bytes are the
 * trace's. */
static const struct replay_outcome *longest(const struct replay_report *report) {
    const struct replay_outcome *best = report->targets[0].outcome;
    for (size_t i = 1; i < report->target_count; i++) {
        const struct replay_outcome *o = report->targets[i].outcome;
        if (o->sample_count < best->sample_count) continue;
        if (o->sample_count > best->sample_count || o->failures < best->failures) best = o;
    }
    return best;
}

/* After which samples are taken; a run that ended before has no values there. */
static double *sample_events(const struct replay_program *program) {
    double *events = tool_alloc(program->sample_count, sizeof(double));
    for (uint64_t i = 0; i < program->sample_count; i++) {
        uint64_t event = (i + 1) * program->every;
        events[i] = (double)(event < program->op_count ? event : program->op_count);
    }
    return events;
}

static void add_series(struct document *document, const struct replay_report *report,
                       const char *name, const struct replay_outcome *outcome, value_fn *value) {
    bool known;
    double *values = values_of(report, outcome, value, &known);
    if (known) document_series(document, name, values, report->program->sample_count);
    free(values);
}

static void add_chart(struct document *document, const struct replay_report *report,
                      const char *title, const char *label, const char *unit, value_fn *value) {
    bool known, any = false;
    for (size_t i = 0; i < report->target_count; i++) {
        free(values_of(report, report->targets[i].outcome, value, &known));
        any |= known;
    }
    if (!any) return;
    double *events = sample_events(report->program);
    document_chart(document, title, "events", label, unit, events, report->program->sample_count);
    free(events);
    for (size_t i = 0; i < report->target_count; i++)
        add_series(document, report, report->targets[i].name, report->targets[i].outcome, value);
    if (value == held_of || value == resident_of)
        add_series(document, report, "live", longest(report), live_of);
}

static void add_charts(struct document *document, const struct replay_report *report) {
    add_chart(document, report, "Held and live memory", "memory", "bytes", held_of);
    add_chart(document, report, "Resident and live memory", "memory", "bytes", resident_of);
    add_chart(document, report, "What is held and not live, of what is held", "share", "ratio",
              lost_of);
    add_chart(document, report, "Internal fragmentation: lost inside used blocks", "share", "ratio",
              internal_of);
    add_chart(document, report,
              "External fragmentation: free memory outside the largest free block", "share",
              "ratio", external_of);
}

/* ------------------------------------------------------------------ heaps -------------------- */

static void add_heap(struct document *document, const struct replay_target *target) {
    char *title = tool_format("The heap of %s", target->name);
    document_heap(document, title, target->name);
    free(title);
    for (size_t f = 0; f < target->frame_count; f++) {
        const struct replay_frame *frame = &target->frames[f];
        document_frame(document, frame->event, frame->held, frame->live);
        document_frame_call(document, "%s", frame->call);
        for (size_t b = 0; b < frame->count; b++) document_block(document, &frame->blocks[b]);
    }
    if (target->merged_frames > 0)
        document_left_out(document,
                          "In %llu of %zu frames, neighbours below %s bytes are drawn as one "
                          "block, in the state that most of its bytes have.",
                          LLU(target->merged_frames), target->frame_count,
                          cell_count((double)target->merged_below).text);
    if (target->cut_frames > 0)
        document_left_out(document,
                          "In %llu of them the blocks at the highest addresses are missing.",
                          LLU(target->cut_frames));
}

/* ------------------------------------------------------------------ texts -------------------- */

/* A number in a sentence. */
static struct cell told(uint64_t number) {
    return cell_count((double)number);
}

static void add_introduction(struct document *document, const struct replay_report *report) {
    const struct trace_info *info = report->info;
    const struct replay_program *program = report->program;
    document_text(document,
                  "%s has %s events (%s allocations, %s frees, %s resizes) by %u thread%s. "
                  "At most %s bytes are live, after event %s, and %s at the end.",
                  report->path, told(program->op_count).text, told(info->allocs).text,
                  told(info->frees).text, told(info->resizes).text, program->thread_count,
                  program->thread_count == 1 ? "" : "s", told(program->peak_live).text,
                  told(program->peak_event).text, told(program->final_live).text);
    if (info->command[0] != '\0') document_text(document, "It was recorded of: %s", info->command);
    if (info->torn)
        document_text(document,
                      "The recording is torn: it was replayed up to the last whole part.");
    for (size_t i = 0; i < report->target_count; i++) {
        const struct replay_target *target = &report->targets[i];
        if (target->outcome->stopped)
            document_text(document,
                          "%s was stopped after event %s, when it had passed %s blocks of its list "
                          "of free blocks one by one. Its figures are those up to there; --steps 0 "
                          "lets it finish.",
                          target->name, told(target->outcome->events).text,
                          told(target->steps_most).text);
        if (target->outcome->error[0] == '\0') continue;
        document_text(document, "%s failed: %s. Its figures are those up to there.", target->name,
                      target->outcome->error);
    }
}

static void add_explanation(struct document *document, const struct replay_report *report) {
    bool kinds[REPLAY_PROCESS + 1] = {false};
    for (size_t i = 0; i < report->target_count; i++) kinds[report->targets[i].kind] = true;
    document_text(document,
                  "Live is what the program asked for and has not freed. Held is what the "
                  "allocator has from the system%s%s%s. Resident is what of that was ever touched "
                  "and not given back, in pages. Utilisation is the most that was live through the "
                  "most that was held.",
                  kinds[REPLAY_CLASSIC] ? "; of a classic heap its break and its mappings" : "",
                  kinds[REPLAY_LUCID]
                      ? "; of lucid slices of 64 KiB, touched or not, and its own tables"
                      : "",
                  kinds[REPLAY_PROCESS]
                      ? "; of a process the private memory that is resident beyond what was there "
                        "before the first event, looked at when a sample is taken"
                      : "");
}

struct document *replay_document(const struct replay_report *report) {
    const char *slash = strrchr(report->path, '/');
    char *title = tool_format("Replay of %s", slash != NULL ? slash + 1 : report->path);
    struct document *document = document_create(title);
    free(title);
    add_introduction(document, report);
    add_memory(document, report);
    add_explanation(document, report);
    add_work(document, report);
    explain_work(document, report);
    add_charts(document, report);
    for (size_t i = 0; i < report->target_count; i++)
        if (report->targets[i].frame_count > 0) add_heap(document, &report->targets[i]);
    add_time(document, report);
    return document;
}
