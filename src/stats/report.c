/*
 * report.c - statistics as JSON and as text, and the report at exit.
 *
 * Both are made from one table of the plain fields, so that no figure can be missing in one of
 * them. Text goes through base/format.h: nothing here allocates.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/format.h"
#include "base/version.h"
#include "base/options.h"
#include "base/told.h"
#include "os/os.h"
#include "stats/snapshot.h"

#define REPORT_BYTES 16384

static const struct {
    const char *name;
    size_t offset;
} fields[] = {
#define FIELD(name) \
    { #name, offsetof(lu_stats_t, name) }
    FIELD(live_bytes),     FIELD(live_blocks),     FIELD(held_bytes),      FIELD(dirty_bytes),
    FIELD(returned_bytes), FIELD(reserved_bytes),  FIELD(committed_bytes), FIELD(metadata_bytes),
    FIELD(unbacked_bytes), FIELD(peak_held_bytes), FIELD(large_blocks),    FIELD(large_bytes),
    FIELD(huge_blocks),    FIELD(huge_bytes),      FIELD(guarded_blocks),  FIELD(guarded_bytes),
    FIELD(thread_heaps),   FIELD(pooled_heaps),    FIELD(os_calls),        FIELD(limit_bytes),
#undef FIELD
};

static size_t field_of(const lu_stats_t *stats, size_t i) {
    size_t value;
    memcpy(&value, (const char *)stats + fields[i].offset, sizeof value);
    return value;
}

size_t lu_stats_json(char *text, size_t text_bytes) {
    lu_stats_t stats;
    lu_stats_get(&stats);
    struct lu__text out;
    lu__text_init(&out, text, text_bytes);
    lu__text_add(&out, "{\"schema\":\"lucid-stats-1\",\"version\":\"%s\"", LU_VERSION_TEXT);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        lu__text_add(&out, ",\"%s\":%zu", fields[i].name, field_of(&stats, i));
    }
    lu__text_add(&out, ",\"held\":{");
    for (unsigned i = 0; i < LU_HELD_PARTS; i++) {
        lu__text_add(&out, "%s\"%s\":%zu", i > 0 ? "," : "", lu__held_names[i],
                     lu__held_part(&stats.held, i));
    }
    lu__text_add(&out, "},\"violations\":%zu,\"classes\":[", (size_t)lu__told_total());
    for (size_t c = 0; c < stats.class_count; c++) {
        const lu_class_stats_t *class = &stats.classes[c];
        lu__text_add(&out,
                     "%s{\"block_bytes\":%zu,\"live_blocks\":%zu,\"free_blocks\":%zu,"
                     "\"spans\":%zu}",
                     c > 0 ? "," : "", class->block_bytes, class->live_blocks, class->free_blocks,
                     class->spans);
    }
    lu__text_add(&out, "]}");
    return out.need;
}

/* The parts that there are, below the figure that they add up to. */
static void print_parts(const lu_held_t *held) {
    for (unsigned i = 0; i < LU_HELD_PARTS; i++) {
        size_t bytes = lu__held_part(held, i);
        if (bytes != 0) lu__print(2, "lucid:     held: %s %zu\n", lu__held_names[i], bytes);
    }
}

static void print_text(void) {
    lu_stats_t stats;
    lu_stats_get(&stats);
    lu__print(2, "lucid %s: statistics at exit\n", LU_VERSION_TEXT);
    if (!lu__stats_has_memory(&stats)) lu__print(2, "lucid:   " LU_STATS_NONE "\n");
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        lu__print(2, "lucid:   %s %zu\n", fields[i].name, field_of(&stats, i));
        if (fields[i].offset == offsetof(lu_stats_t, held_bytes)) print_parts(&stats.held);
    }
    lu__print(2, "lucid:   violations %zu\n", (size_t)lu__told_total());
    for (size_t c = 0; c < stats.class_count; c++) {
        const lu_class_stats_t *class = &stats.classes[c];
        if (class->spans == 0) continue;
        lu__print(2, "lucid:   class %zu: %zu live, %zu free, %zu spans\n", class->block_bytes,
                  class->live_blocks, class->free_blocks, class->spans);
    }
}

/* The path with %p replaced by the process id. */
static void expand_path(char *path, size_t path_bytes) {
    struct lu__text out;
    lu__text_init(&out, path, path_bytes);
    for (const char *at = lu__option_stats_file; *at != 0; at++) {
        if (at[0] == '%' && at[1] == 'p') {
            lu__text_add(&out, "%d", (int)getpid());
            at++;
        } else {
            lu__text_add(&out, "%c", *at);
        }
    }
}

void lu__stats_at_exit(void) {
    static char text[REPORT_BYTES];
    char path[300];
    if (lu__option(LU_OPT_STATS) == 0) return;
    if (lu__option_stats_file[0] == 0 && lu__option(LU_OPT_STATS) == 1) {
        print_text();
        return;
    }
    size_t length = LU_MIN(lu_stats_json(text, sizeof text - 1), sizeof text - 2);
    text[length++] = '\n';
    if (lu__option_stats_file[0] == 0) {
        lu__os_write(2, text, length);
        return;
    }
    expand_path(path, sizeof path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        lu__print(2, "lucid: option stats_file: cannot write '%s'\n", path);
        return;
    }
    lu__os_write(fd, text, length);
    (void)close(fd);
}
