/*
 * replay.c - `lucid replay`: the calls of a recorded program, made again on many allocators.
 *
 *     a name of LIST                what it means                      where it runs
 *     kr first … dl pt              a classic allocator, simulated     in this process
 *     lucid                         the engine under its lu_ names     in a forked child
 *     glibc jemalloc … NAME=PATH    the malloc of a program            in a process of its own
 *     real:NAME                     the same for the names of the first two lines
 *
 * The first two kinds give the same figures every time, all but the time; with --repeat that is
 * checked. The least time of the repetitions counts, and of everything else the first one.
 *
 * This file has the arguments and the order of things. What files may not be overwritten is found
 * out before the first event, not after the last.
 */
#include "replay/replay.h"

#include "replay/replay_parts.h"

#include "frame/frame.h"

#include "classic/classic.h"

#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

enum { KEY_EVERY = 256, KEY_REPEAT, KEY_FRAMES, KEY_STEPS };

#define DEFAULT_LIST "first,best,buddy,dl,pt,lucid"
#define FRAMES 60u
#define FRAMES_OF_TEXT 8u
#define FRAME_BLOCKS 240000u /* of all frames of all heaps together */
#define FRAME_BLOCKS_LEAST 256u
#define REAL "real:"
#define STEPS_UNIT 1000000u
#define STEPS_MOST 300u /* millions: some ten seconds of following links */

struct arguments {
    struct tool_common common;
    const char *path;
    unsigned every, repeats;
    unsigned frames;
    bool has_frames;
    unsigned steps; /* millions */
};

static const struct argp_option options[] = {
    {"allocators", 'a', "LIST", 0, "Allocators, separated by commas (default: " DEFAULT_LIST ")",
     0},
    {"json", TOOL_KEY_JSON, NULL, 0, "Report as JSON (schemas lucid-document/1 and lucid-replay/1)",
     0},
    {"html", TOOL_KEY_HTML, "FILE", 0, "Write a page with charts and heap maps as well", 0},
    {"output", 'o', "FILE", 0, "Write the report to FILE instead of standard output", 0},
    {"force", TOOL_KEY_FORCE, NULL, 0, "Overwrite files that exist", 0},
    {"every", KEY_EVERY, "N", 0,
     "Look at the memory after every N events (default: about 500 times)", 0},
    {"frames", KEY_FRAMES, "N", 0,
     "Draw each simulated heap N times, 0 never (default: 60; 8 for a terminal)", 0},
    {"steps", KEY_STEPS, "N", 0,
     "Stop a simulated allocator that has passed N million blocks of its list of free blocks one "
     "by one, 0 never (default: 300)",
     0},
    {"repeat", KEY_REPEAT, "N", 0,
     "Run N times on each; the least time counts, and all else must be equal (default: 1)", 0},
    {0},
};

static const char doc[] =
    "Make the calls of a recorded program again on several allocators, and compare memory, "
    "fragmentation and work."
    "\vFILE is a recording of 'lucid record' or a trace of the malloc lab (.rep).\n\n"
    "A classic allocator (kr, first, next, best, best_tree, worst, buddy, slab, dl, pt) and lucid "
    "are simulated: the same trace gives the same figures every time, but for the time. Others "
    "(glibc, jemalloc, mimalloc, tcmalloc, tcmalloc_minimal, NAME=PATH of a library to preload, "
    "real:NAME for the libraries of the simulated ones) run in a process of their own, and their "
    "resident memory is measured.\n\n"
    "Events are executed in the order of the trace, those of different threads by threads that "
    "take turns. Every block is written to, and checked before it is freed.\n\n"
    "The exit status is 0; 1 if an allocator damaged a block, crashed or was found unsound; 2 for "
    "bad input; 125 if lucid itself fails.";

static error_t parse_option(int key, char *arg, struct argp_state *state) {
    struct arguments *args = state->input;
    switch (key) {
    case KEY_EVERY:
        args->every = tool_parse_number(state, arg, 1, "--every");
        return 0;
    case KEY_FRAMES:
        args->frames = tool_parse_number(state, arg, 0, "--frames");
        args->has_frames = true;
        return 0;
    case KEY_STEPS:
        args->steps = tool_parse_number(state, arg, 0, "--steps");
        return 0;
    case KEY_REPEAT:
        args->repeats = tool_parse_number(state, arg, 1, "--repeat");
        return 0;
    case ARGP_KEY_ARG:
        if (args->path != NULL) argp_error(state, "one trace at a time, not '%s' as well", arg);
        args->path = arg;
        return 0;
    case ARGP_KEY_END:
        if (args->path == NULL) argp_error(state, "no trace to replay");
        return 0;
    default:
        return tool_parse_common(key, arg, &args->common);
    }
}

/* ------------------------------------------------------------------ targets ------------------ */

struct targets {
    struct replay_target *at;
    size_t count;
    struct allocator_list allocators; /* of those that are processes */
};

static void add_target(struct targets *targets, const char *spec) {
    struct replay_target target = {.kind = REPLAY_PROCESS};
    bool real = strncmp(spec, REAL, strlen(REAL)) == 0;
    const char *named = real ? spec + strlen(REAL) : spec;
    target.policy = real ? NULL : lu__policy_find(spec);
    if (target.policy != NULL) target.kind = REPLAY_CLASSIC;
    if (!real && strcmp(spec, "lucid") == 0) target.kind = REPLAY_LUCID;
    if (target.kind == REPLAY_PROCESS) {
        allocator_add(&targets->allocators, named);
        target.allocator = targets->allocators.count - 1;
        target.name = tool_format("%s%s", real ? REAL : "",
                                  targets->allocators.at[target.allocator].name);
    } else {
        target.name = tool_format("%s", spec);
    }
    for (size_t i = 0; i < targets->count; i++)
        if (strcmp(targets->at[i].name, target.name) == 0)
            tool_bad_input("allocator '%s' is named twice", target.name);
    targets->at = tool_grow(targets->at, targets->count + 1, sizeof(target));
    targets->at[targets->count++] = target;
}

static void add_targets(struct targets *targets, const char *list) {
    char *copy = tool_format("%s", list);
    char *rest = copy;
    for (char *spec = strsep(&rest, ","); spec != NULL; spec = strsep(&rest, ",")) {
        if (spec[0] == '\0') tool_bad_input("an allocator has no name: '%s'", list);
        add_target(targets, spec);
    }
    free(copy);
}

static void targets_fini(struct targets *targets) {
    for (size_t i = 0; i < targets->count; i++) {
        replay_frames_free(&targets->at[i]);
        replay_memory_free(&targets->at[i].memory);
        free(targets->at[i].name);
    }
    free(targets->at);
    allocator_list_fini(&targets->allocators);
}

/* ------------------------------------------------------------------ running ------------------ */

static void run_once(const struct replay_memory *program, const struct targets *targets,
                     struct replay_target *target, const char *what) {
    const struct replay_program *made = program->at;
    target->memory = replay_outcome_make(made);
    target->outcome = target->memory.at;
    replay_progress_begin(what, target->outcome, made->op_count);
    switch (target->kind) {
    case REPLAY_CLASSIC:
        replay_classic(program->at, target);
        break;
    case REPLAY_LUCID:
        replay_lucid(program->at, target);
        break;
    case REPLAY_PROCESS:
        replay_process(program, &targets->allocators.at[target->allocator], target);
        break;
    }
    replay_progress_end();
}

/* Another run of what `target` has the first run of. */
static void repeat(const struct replay_memory *program, const struct targets *targets,
                   struct replay_target *target, const char *what) {
    struct replay_target again = {.kind = target->kind,
                                  .policy = target->policy,
                                  .steps_most = target->steps_most,
                                  .allocator = target->allocator};
    run_once(program, targets, &again, what);
    double best = target->outcome->seconds;
    if (again.outcome->seconds < best) best = again.outcome->seconds;
    target->outcome->seconds = again.outcome->seconds = best;
    bool equal = memcmp(target->outcome, again.outcome, target->memory.bytes) == 0;
    if (again.outcome->error[0] != '\0') {
        replay_fail(target->outcome, "another time: %s", again.outcome->error);
    } else if (!equal && target->kind != REPLAY_PROCESS) {
        replay_fail(target->outcome, "another time its figures were not the same");
    }
    replay_memory_free(&again.memory);
}

/* Those that may pass all free blocks in a call get their bound. If a trace is long enough for that
 * to take its time, it is said once. The estimate is that each event passes a sixteenth as many
 * free blocks as are live at most; worst fit on python.trace comes near it. */
static void bound_steps(struct targets *targets, const struct replay_program *program,
                        unsigned millions) {
    char *names = tool_format("%s", "");
    for (size_t i = 0; i < targets->count; i++) {
        struct replay_target *target = &targets->at[i];
        if (target->kind != REPLAY_CLASSIC || !target->policy->linear) continue;
        target->steps_most = (uint64_t)millions * STEPS_UNIT;
        char *more = tool_format("%s%s%s", names, names[0] != '\0' ? ", " : "", target->name);
        free(names);
        names = more;
    }
    uint64_t most = (uint64_t)(millions != 0 ? millions : STEPS_MOST) * STEPS_UNIT;
    bool takes_long = program->op_count > 16 * most / (program->peak_blocks + 1);
    if (names[0] != '\0' && takes_long && millions != 0)
        tool_warn("%s may pass every free block in each of %s events: a run is stopped after %s "
                  "blocks; --steps 0 lets it finish, which may take minutes",
                  names, cell_count((double)program->op_count).text, cell_count((double)most).text);
    else if (names[0] != '\0' && takes_long)
        tool_warn("%s may pass every free block in each of %s events: that may take minutes", names,
                  cell_count((double)program->op_count).text);
    free(names);
}

/* False if one of them failed. */
static bool run_all(const struct replay_memory *program, struct targets *targets,
                    unsigned repeats) {
    bool good = true;
    for (size_t i = 0; i < targets->count; i++) {
        struct replay_target *target = &targets->at[i];
        for (unsigned round = 0; round < repeats; round++) {
            char *what = tool_format("%s (%zu of %zu)", target->name, i * repeats + round + 1,
                                     targets->count * repeats);
            if (round == 0)
                run_once(program, targets, target, what);
            else
                repeat(program, targets, target, what);
            free(what);
        }
        if (target->outcome->error[0] == '\0') continue;
        tool_warn("%s: %s", target->name, target->outcome->error);
        good = false;
    }
    return good;
}

/* ------------------------------------------------------------------ the command -------------- */

/* Dies if it is there and may not be overwritten. */
static void check_absent(const char *path, bool force) {
    struct stat status;
    if (path == NULL || force) return;
    if (stat(path, &status) == 0 && S_ISREG(status.st_mode))
        tool_bad_input("%s exists; --force overwrites it", path);
}

static void write_report(const struct arguments *args, const struct replay_report *report) {
    struct document *document = replay_document(report);
    struct output out;
    output_open(&out, args->common.output, args->common.force, stdout);
    if (args->common.json) {
        json_t *json = document_json(document);
        json_object_set_new(json, "results", replay_results(report));
        if (json_dumpf(json, out.to, JSON_COMPACT | JSON_REAL_PRECISION(9)) != 0)
            tool_die("cannot write the report");
        fputc('\n', out.to);
    } else {
        document_print(document, &out);
    }
    output_close(&out);
    if (args->common.html != NULL)
        document_write_html(document, args->common.html, args->common.force);
    document_destroy(document);
}

static unsigned frames_of(const struct arguments *args) {
    if (args->has_frames) return args->frames;
    return args->common.json || args->common.html != NULL ? FRAMES : FRAMES_OF_TEXT;
}

static void share_frames(struct targets *targets, unsigned frames) {
    if (frames == 0) return;
    for (size_t i = 0; i < targets->count; i++) {
        uint64_t room = FRAME_BLOCKS / ((uint64_t)frames * targets->count);
        targets->at[i].frame_room = room > FRAME_BLOCKS_LEAST ? room : FRAME_BLOCKS_LEAST;
    }
}

int tool_replay_main(int argc, char **argv) {
    const struct argp parser = {options, parse_option, "FILE", doc, NULL, NULL, NULL};
    struct arguments args = {.common.allocators = DEFAULT_LIST, .repeats = 1, .steps = STEPS_MOST};
    struct targets targets = {0};
    struct trace_error error;
    tool_parse(&parser, argc, argv, &args);
    add_targets(&targets, args.common.allocators);
    check_absent(args.common.output, args.common.force);
    check_absent(args.common.html, args.common.force);
    struct trace *trace = trace_open(args.path, &error);
    if (trace == NULL)
        tool_bad_input("%s: byte %llu: %s", args.path, (unsigned long long)error.offset,
                       error.reason);
    /* Pages of 2 MiB come when the kernel has some: figures would not be the same twice. */
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    share_frames(&targets, frames_of(&args));
    struct replay_memory program = replay_program_make(trace, args.path, args.every,
                                                       frames_of(&args));
    bound_steps(&targets, program.at, args.steps);
    bool good = run_all(&program, &targets, args.repeats);
    const struct replay_report report = {.path = args.path,
                                         .info = trace_info(trace),
                                         .program = program.at,
                                         .targets = targets.at,
                                         .target_count = targets.count,
                                         .repeats = args.repeats};
    write_report(&args, &report);
    targets_fini(&targets);
    replay_memory_free(&program);
    trace_close(trace);
    return good ? 0 : 1;
}
