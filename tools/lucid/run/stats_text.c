/*
 * stats_text.c - "what the allocator did": memory by state, then blocks by size class.
 *
 *     What lucid did (process 1234, when it ended)
 *       live in the program   1.2 MiB in 1,234 blocks
 *       held                 61.0 MiB, at most 70.0 MiB: the sum of
 *         live, small blocks  1.0 MiB
 *         free, busy threads 48.0 MiB
 *         ...
 *       block bytes   live blocks   live bytes   free blocks   spans
 *
 * The document comes from the library that ran in the child, which may be older or newer than this
 * command: a member that is missing is not shown, an unknown one is ignored.
 */
#include "run/stats_text.h"

#include "frame/frame.h"

static bool has(const json_t *stats, const char *key) {
    return json_is_number(json_object_get(stats, key));
}

static double number(const json_t *stats, const char *key) {
    return json_number_value(json_object_get(stats, key));
}

static struct cell bytes(const json_t *stats, const char *key) {
    return cell_bytes(number(stats, key));
}

static struct cell count(const json_t *stats, const char *key) {
    return cell_count(number(stats, key));
}

/* The members of "held", which add up to held_bytes. */
static const struct {
    const char *key, *label;
} parts[] = {
    {"live_small", "live, small blocks"},
    {"live_large", "live, large blocks"},
    {"live_huge", "live, huge blocks"},
    {"padding", "around live blocks"},
    {"free_active", "free, busy threads"},
    {"free_idle", "free, silent threads"},
    {"free_ended", "free, ended threads"},
    {"free_user", "free, lu_heaps"},
    {"waiting", "freed, not taken in"},
    {"quarantine", "freed, held back"},
    {"free_runs", "free runs"},
    {"transit", "changed meanwhile"},
};

static void print_held(FILE *to, const json_t *stats) {
    const json_t *held = json_object_get(stats, "held");
    fprintf(to, "  held                 %10s, at most %s%s\n", bytes(stats, "held_bytes").text,
            bytes(stats, "peak_held_bytes").text, held != NULL ? ": the sum of" : "");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (number(held, parts[i].key) > 0)
            fprintf(to, "    %-21s%8s\n", parts[i].label, bytes(held, parts[i].key).text);
    }
}

static void print_states(FILE *to, const json_t *stats) {
    if (has(stats, "live_bytes"))
        fprintf(to, "  live in the program  %10s in %s blocks\n", bytes(stats, "live_bytes").text,
                count(stats, "live_blocks").text);
    if (number(stats, "guarded_bytes") > 0)
        fprintf(to, "    of it guarded      %10s in %s blocks, beside what is held\n",
                bytes(stats, "guarded_bytes").text, count(stats, "guarded_blocks").text);
    if (has(stats, "held_bytes")) print_held(to, stats);
    if (has(stats, "returned_bytes"))
        fprintf(to, "  returned to system   %10s\n", bytes(stats, "returned_bytes").text);
    if (has(stats, "metadata_bytes"))
        fprintf(to, "  lucid's own tables   %10s\n", bytes(stats, "metadata_bytes").text);
    if (has(stats, "committed_bytes"))
        fprintf(to, "  address space        %10s\n", bytes(stats, "committed_bytes").text);
    if (has(stats, "unbacked_bytes"))
        fprintf(to, "    without memory       %8s\n", bytes(stats, "unbacked_bytes").text);
    if (has(stats, "limit_bytes") && number(stats, "limit_bytes") > 0)
        fprintf(to, "  limit                %10s\n", bytes(stats, "limit_bytes").text);
    if (has(stats, "thread_heaps"))
        fprintf(to, "  thread heaps         %10s in use, %s waiting for a thread\n",
                count(stats, "thread_heaps").text, count(stats, "pooled_heaps").text);
    if (has(stats, "os_calls"))
        fprintf(to, "  system calls made    %10s\n", count(stats, "os_calls").text);
}

static bool is_used(const json_t *class) {
    return number(class, "live_blocks") > 0 || number(class, "free_blocks") > 0 ||
           number(class, "spans") > 0;
}

static void print_class(FILE *to, const json_t *class) {
    double live = number(class, "live_blocks");
    fprintf(to, "  %12s  %12s  %12s  %12s  %8s\n", count(class, "block_bytes").text,
            cell_count(live).text, cell_bytes(live * number(class, "block_bytes")).text,
            count(class, "free_blocks").text, count(class, "spans").text);
}

/* Blocks above the size classes, in the same columns. */
static void print_above(FILE *to, const json_t *stats, const char *label, const char *blocks,
                        const char *size) {
    if (!has(stats, blocks) || number(stats, blocks) <= 0) return;
    fprintf(to, "  %12s  %12s  %12s  %12s  %8s\n", label, count(stats, blocks).text,
            bytes(stats, size).text, "-", "-");
}

void stats_text_print(struct output *out, const char *name, pid_t child,
                      const struct statfiles_choice *chosen) {
    FILE *to = out->to;
    const json_t *stats = chosen->stats;
    fprintf(to, "\n%sWhat %s did%s (", output_bold(out), name, output_plain(out));
    if (chosen->pid == child)
        fprintf(to, "process %ld, when it ended", (long)child);
    else
        fprintf(to, "process %ld, the largest that wrote statistics", (long)chosen->pid);
    if (chosen->others != 0)
        fprintf(to, "; %zu other process%s not shown", chosen->others,
                chosen->others == 1 ? "" : "es");
    fputs(")\n", to);
    print_states(to, stats);
    const json_t *classes = json_object_get(stats, "classes");
    fprintf(to, "\n%s  %12s  %12s  %12s  %12s  %8s%s\n", output_bold(out), "block bytes",
            "live blocks", "live bytes", "free blocks", "spans", output_plain(out));
    for (size_t i = 0; i < json_array_size(classes); i++)
        if (is_used(json_array_get(classes, i))) print_class(to, json_array_get(classes, i));
    print_above(to, stats, "large", "large_blocks", "large_bytes");
    print_above(to, stats, "huge", "huge_blocks", "huge_bytes");
}
