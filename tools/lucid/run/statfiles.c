/*
 * statfiles.c - the files in which lucid's library reports at process exit.
 *
 *     $TMPDIR/lucid-XXXXXX/        one directory per run
 *         1234.json                written by process 1234 (the library replaces %p by its pid)
 *         1240.json                by a child of it
 *
 * The library is told by LUCID_OPTIONS, to which `stats:json,stats_file:…` is appended; the user's
 * own keys stay in front. Other allocators do not know the variable, so it is set for all of them
 * and a second build of lucid under another name reports as well. A process that is killed, that
 * ends by _exit or that cannot be preloaded writes nothing.
 */
#include "run/statfiles.h"

#include "frame/frame.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SCHEMA "lucid-stats-1"
/* The library keeps the path in 256 bytes, the pid's digits and the terminator included. */
#define LONGEST_DIRECTORY 200

/* Commas and colons separate the keys of LUCID_OPTIONS, so the path can have none. */
static bool is_usable_directory(const char *path) {
    return path != NULL && path[0] == '/' && strpbrk(path, ",:%") == NULL &&
           strlen(path) <= LONGEST_DIRECTORY;
}

void statfiles_init(struct statfiles *files) {
    const char *parent = getenv("TMPDIR");
    if (!is_usable_directory(parent)) parent = "/tmp";
    files->directory = tool_format("%s/lucid-XXXXXX", parent);
    if (mkdtemp(files->directory) == NULL)
        tool_die("cannot make a directory in %s: %s", parent, strerror(errno));
    const char *user = getenv("LUCID_OPTIONS");
    bool more = user != NULL && user[0] != '\0';
    files->lucid_options = tool_format("%s%sstats:json,stats_file:%s/%%p.json", more ? user : "",
                                       more ? "," : "", files->directory);
}

static bool is_stat_file(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot != NULL && dot != name && strcmp(dot, ".json") == 0;
}

void statfiles_fini(struct statfiles *files) {
    DIR *directory = opendir(files->directory);
    if (directory != NULL) {
        for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory))
            if (is_stat_file(entry->d_name)) unlinkat(dirfd(directory), entry->d_name, 0);
        closedir(directory);
    }
    rmdir(files->directory);
    free(files->directory);
    free(files->lucid_options);
}

/* A new reference, or NULL if the file is not what the library writes. */
static json_t *load(const char *directory, const char *name) {
    json_error_t error;
    char *path = tool_format("%s/%s", directory, name);
    json_t *stats = json_load_file(path, 0, &error);
    const char *schema = json_string_value(json_object_get(stats, "schema"));
    bool good = schema != NULL && strcmp(schema, SCHEMA) == 0;
    if (stats == NULL)
        tool_warn("the statistics in %s are no JSON: %s", name, error.text);
    else if (!good)
        tool_warn("the statistics in %s have another schema than " SCHEMA, name);
    free(path);
    if (!good) {
        json_decref(stats);
        return NULL;
    }
    return stats;
}

static double peak_of(const json_t *stats) {
    return json_number_value(json_object_get(stats, "peak_held_bytes"));
}

/* True if process `pid` is to be shown rather than the best so far. */
static bool is_better(const struct statfiles_choice *shown, pid_t pid, const json_t *stats,
                      pid_t wanted) {
    if (shown->stats == NULL || pid == wanted) return true;
    return shown->pid != wanted && peak_of(stats) > peak_of(shown->stats);
}

struct statfiles_choice statfiles_read(const struct statfiles *files, pid_t pid) {
    struct statfiles_choice shown = {NULL, 0, 0};
    DIR *directory = opendir(files->directory);
    if (directory == NULL) return shown;
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        if (!is_stat_file(entry->d_name)) continue;
        pid_t writer = (pid_t)strtol(entry->d_name, NULL, 10);
        json_t *stats = load(files->directory, entry->d_name);
        if (stats == NULL) continue;
        shown.others += shown.stats != NULL;
        if (is_better(&shown, writer, stats, pid)) {
            json_decref(shown.stats);
            shown.stats = stats;
            shown.pid = writer;
        } else {
            json_decref(stats);
        }
    }
    closedir(directory);
    return shown;
}
