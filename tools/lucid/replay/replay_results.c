/*
 * replay_results.c - a replay as JSON for programs: the member "results" of the document.
 *
 *     {"schema": "lucid-replay/1",
 *      "trace": {"path": T, "format": T, "command": T, "events": n, "allocs": n, "frees": n,
 *                "resizes": n, "threads": n, "peak_live_bytes": n, "peak_event": n,
 *                "final_live_bytes": n, "torn": b},
 *      "every": n, "repeats": n,
 *      "allocators": [{"name": T, "kind": "classic" "lucid" or "process", "library": T or null,
 *                      "error": T or null, "events": n, "stopped_after": n or null,
 *                      "failures": n, "seconds": x,
 *                      "peak_held_bytes": n, "final_held_bytes": n, "peak_resident_bytes": n,
 *                      "final_resident_bytes": n, "utilisation": x,
 *                      "mean_internal": x, "mean_external": x, "searches": n,
 *                      "searches_per_operation": x, "free_steps": n,
 *                      "free_steps_per_operation": x, "splits": n, "merges": n,
 *                      "break_moves": n, "maps": n, "unmaps": n, "system_calls": n,
 *                      "samples": {"event": […], "live": […], "held": […], "resident": […],
 *                                  "internal": […], "external": […]}}…]}
 *
 * "stopped_after" is the last event of a run that its bound of steps ended (--steps).
 * What is not known of an allocator is null. Of a simulated one only "seconds" differs from replay
 * to replay.
 */
#include "replay/replay_parts.h"

#include <math.h>

double replay_utilisation(const struct replay_program *program,
                          const struct replay_outcome *outcome) {
    if (outcome->stopped) return NAN; /* the most may not have been live yet */
    return output_ratio((double)program->peak_live, (double)outcome->peak_held);
}

/* Over the samples that know it; NAN if none does. */
static double mean(const struct replay_outcome *outcome, size_t offset) {
    double sum = 0;
    uint64_t known = 0;
    for (uint64_t i = 0; i < outcome->sample_count; i++) {
        double value = *(const double *)((const char *)&outcome->samples[i] + offset);
        if (isnan(value)) continue;
        sum += value;
        known++;
    }
    return output_ratio(sum, (double)known);
}

double replay_mean_internal(const struct replay_outcome *outcome) {
    return mean(outcome, offsetof(struct replay_sample, internal));
}

double replay_mean_external(const struct replay_outcome *outcome) {
    return mean(outcome, offsetof(struct replay_sample, external));
}

/* ------------------------------------------------------------------ members ------------------ */

static json_t *text_or_null(const char *text) {
    return text[0] != '\0' ? json_string(text) : json_null();
}

static json_t *real_or_null(double value) {
    return isnan(value) ? json_null() : json_real(value);
}

static void set_count(json_t *object, const char *name, bool known, uint64_t count) {
    json_object_set_new(object, name, known ? json_integer((json_int_t)count) : json_null());
}

static json_t *samples_json(const struct replay_outcome *outcome) {
    json_t *event = json_array(), *live = json_array(), *held = json_array();
    json_t *resident = json_array(), *internal = json_array(), *external = json_array();
    for (uint64_t i = 0; i < outcome->sample_count; i++) {
        const struct replay_sample *sample = &outcome->samples[i];
        json_array_append_new(event, json_integer((json_int_t)sample->event));
        json_array_append_new(live, json_integer((json_int_t)sample->live));
        json_array_append_new(held, json_integer((json_int_t)sample->held));
        json_array_append_new(resident, json_integer((json_int_t)sample->resident));
        json_array_append_new(internal, real_or_null(sample->internal));
        json_array_append_new(external, real_or_null(sample->external));
    }
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "event", event, "live", live, "held", held,
                     "resident", resident, "internal", internal, "external", external);
}

static void set_work(json_t *object, const struct replay_target *target) {
    const struct replay_counts *counts = &target->outcome->counts;
    bool walked = target->kind == REPLAY_CLASSIC;
    double operations = walked ? (double)target->outcome->events : NAN;
    set_count(object, "searches", walked, counts->searches);
    json_object_set_new(object, "searches_per_operation",
                        real_or_null((double)counts->searches / operations));
    set_count(object, "free_steps", walked, counts->free_steps);
    json_object_set_new(object, "free_steps_per_operation",
                        real_or_null((double)counts->free_steps / operations));
    set_count(object, "splits", walked, counts->splits);
    set_count(object, "merges", walked, counts->merges);
    set_count(object, "break_moves", walked, counts->break_moves);
    set_count(object, "maps", walked, counts->maps);
    set_count(object, "unmaps", walked, counts->unmaps);
    set_count(object, "system_calls", target->kind != REPLAY_PROCESS, counts->system_calls);
}

static json_t *target_json(const struct replay_report *report, const struct replay_target *target) {
    static const char *const kinds[] = {"classic", "lucid", "process"};
    const struct replay_outcome *outcome = target->outcome;
    json_t *object = json_object();
    json_object_set_new(object, "name", json_string(target->name));
    json_object_set_new(object, "kind", json_string(kinds[target->kind]));
    json_object_set_new(object, "library", text_or_null(outcome->library));
    json_object_set_new(object, "error", text_or_null(outcome->error));
    set_count(object, "events", true, outcome->events);
    set_count(object, "stopped_after", outcome->stopped, outcome->events);
    set_count(object, "failures", true, outcome->failures);
    json_object_set_new(object, "seconds", json_real(outcome->seconds));
    set_count(object, "peak_held_bytes", true, outcome->peak_held);
    set_count(object, "final_held_bytes", true, outcome->final_held);
    set_count(object, "peak_resident_bytes", true, outcome->peak_resident);
    set_count(object, "final_resident_bytes", true, outcome->final_resident);
    json_object_set_new(object, "utilisation",
                        real_or_null(replay_utilisation(report->program, outcome)));
    json_object_set_new(object, "mean_internal", real_or_null(replay_mean_internal(outcome)));
    json_object_set_new(object, "mean_external", real_or_null(replay_mean_external(outcome)));
    set_work(object, target);
    json_object_set_new(object, "samples", samples_json(outcome));
    return object;
}

static json_t *trace_json(const struct replay_report *report) {
    const struct trace_info *info = report->info;
    const struct replay_program *program = report->program;
    json_t *object = json_object();
    json_object_set_new(object, "path", json_string(report->path));
    json_object_set_new(object, "format", json_string(info->format));
    json_object_set_new(object, "command", text_or_null(info->command));
    set_count(object, "events", true, program->op_count);
    set_count(object, "allocs", true, info->allocs);
    set_count(object, "frees", true, info->frees);
    set_count(object, "resizes", true, info->resizes);
    set_count(object, "threads", true, program->thread_count);
    set_count(object, "peak_live_bytes", true, program->peak_live);
    set_count(object, "peak_event", true, program->peak_event);
    set_count(object, "final_live_bytes", true, program->final_live);
    json_object_set_new(object, "torn", json_boolean(info->torn));
    return object;
}

json_t *replay_results(const struct replay_report *report) {
    json_t *object = json_object(), *allocators = json_array();
    for (size_t i = 0; i < report->target_count; i++)
        json_array_append_new(allocators, target_json(report, &report->targets[i]));
    json_object_set_new(object, "schema", json_string("lucid-replay/1"));
    json_object_set_new(object, "trace", trace_json(report));
    set_count(object, "every", true, report->program->every);
    set_count(object, "repeats", true, report->repeats);
    json_object_set_new(object, "allocators", allocators);
    return object;
}
