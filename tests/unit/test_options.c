/*
 * test_options.c - base/options: LUCID_OPTIONS, and options set by mallopt and the program.
 *
 * The environment is read once, at the start of a process. To test that, this program runs itself
 * again with another environment: as `test_options child KEY...` it prints the value and the origin
 * of each key on stdout, and what the library complains about is on its stderr.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/surface.h"
#include "base/options.h"
#include "lucid/lucid.h"

/* ------------------------------------------------------------------ the child ---------------- */

static bool info_of(const char *key, lu_option_info_t *out) {
    for (size_t i = 0; lu_option_at(i, out); i++)
        if (strcmp(out->key, key) == 0) return true;
    return false;
}

static int child_main(int count, char **keys) {
    for (int i = 0; i < count; i++) {
        lu_option_info_t info;
        if (!info_of(keys[i], &info)) return 3;
        dprintf(STDOUT_FILENO, "%s=%s (%s)\n", keys[i], info.value, info.origin);
    }
    return 0;
}

struct outcome {
    char out[4096]; /* stdout */
    char err[4096]; /* stderr */
};

static void read_all(int fd, char *text, size_t text_bytes) {
    size_t length = 0;
    ssize_t got;
    while ((got = read(fd, text + length, text_bytes - 1 - length)) > 0) length += (size_t)got;
    text[length] = '\0';
    close(fd);
}

/* Run the child with LUCID_OPTIONS=options; `keys` ends with NULL. */
static struct outcome run_child(const char *options, const char *const *keys) {
    int out[2], err[2], status;
    char *arguments[16] = {"test_options", "child"};
    for (size_t i = 0; keys[i] != NULL; i++) arguments[i + 2] = (char *)(uintptr_t)keys[i];
    assert_int_equal(pipe(out), 0);
    assert_int_equal(pipe(err), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setenv("LUCID_OPTIONS", options, 1);
        dup2(out[1], STDOUT_FILENO);
        dup2(err[1], STDERR_FILENO);
        close(out[0]);
        close(err[0]);
        const char *emulator = getenv("LUCID_TEST_EMULATOR"); /* a processor that is not this one */
        if (emulator != NULL) {
            char self[512] = "";
            if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) _exit(126);
            char *emulated[17] = {(char *)(uintptr_t)emulator, self};
            memcpy(emulated + 2, arguments + 1, sizeof arguments - sizeof arguments[0]);
            execvp(emulator, emulated);
        }
        execv("/proc/self/exe", arguments);
        _exit(127);
    }
    close(out[1]);
    close(err[1]);
    struct outcome outcome;
    read_all(out[0], outcome.out, sizeof outcome.out); /* far less than a pipe holds: no deadlock */
    read_all(err[0], outcome.err, sizeof outcome.err);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    return outcome;
}

#define KEYS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* ------------------------------------------------------------------ the environment ---------- */

static void no_options(void **state) {
    (void)state;
    struct outcome got = run_child("", KEYS("abort", "mmap_threshold"));
    assert_string_equal(got.out, "abort=1 (default)\nmmap_threshold=33554432 (default)\n");
    assert_string_equal(got.err, "");
}

static void values_from_environment(void **state) {
    (void)state;
    struct outcome got = run_child(
        "purge_delay:-1,mmap_threshold:8M,top_pad:64k,reserve:64G,perturb:170,limit:3G",
        KEYS("purge_delay", "mmap_threshold", "top_pad", "reserve", "perturb", "limit",
             "arena_max"));
    assert_string_equal(got.err, "");
    assert_string_equal(got.out, "purge_delay=-1 (environment)\n"
                                 "mmap_threshold=8388608 (environment)\n"
                                 "top_pad=65536 (environment)\n"
                                 "reserve=68719476736 (environment)\n"
                                 "perturb=170 (environment)\n"
                                 "limit=3221225472 (environment)\n"
                                 "arena_max=0 (default)\n");
}

/* Commas without an item between them mean nothing; the last of two values counts; a path may have
 * colons in it. */
static void syntax(void **state) {
    (void)state;
    struct outcome got = run_child(",,arena_max:3,,arena_max:5,stats_file:/dev/null:x,",
                                   KEYS("arena_max", "stats_file"));
    assert_string_equal(got.err, "");
    assert_string_equal(got.out, "arena_max=5 (environment)\n"
                                 "stats_file=/dev/null:x (environment)\n");
}

static void unknown_keys(void **state) {
    (void)state;
    struct outcome got = run_child("arena:3,arena_maxx:3,:7,arena_max:4,b\033[1m:1,stats=1,x=1",
                                   KEYS("arena_max"));
    assert_string_equal(got.err, "lucid: option arena: unknown\n"
                                 "lucid: option arena_maxx: unknown\n"
                                 "lucid: option : unknown\n"
                                 "lucid: option b?[1m: unknown\n"
                                 "lucid: option stats=1: no '=' here: options are key:value\n"
                                 "lucid: option x=1: unknown\n");
    assert_string_equal(got.out, "arena_max=4 (environment)\n");
}

static void bad_values(void **state) {
    (void)state;
    struct outcome got = run_child(
        "limit:lots,purge_delay:-2,purge_delay:5s,abort:2,abort,stats:yes,perturb:256,top_pad:,"
        "trim_threshold:-2,reserve:1K,arena_max:99999999999999999999,mmap_threshold:9000000T",
        KEYS("limit", "purge_delay", "abort", "stats", "perturb", "top_pad", "trim_threshold",
             "reserve"));
    assert_string_equal(got.err,
                        "lucid: option limit: bad value 'lots' (not a size)\n"
                        "lucid: option purge_delay: bad value '-2' (out of range)\n"
                        "lucid: option purge_delay: bad value '5s' (not a number)\n"
                        "lucid: option abort: bad value '2' (out of range)\n"
                        "lucid: option abort: bad value '' (no value)\n"
                        "lucid: option stats: bad value 'yes' (not 0, 1 or json)\n"
                        "lucid: option perturb: bad value '256' (out of range)\n"
                        "lucid: option top_pad: bad value '' (not a size)\n"
                        "lucid: option trim_threshold: bad value '-2' (out of range)\n"
                        "lucid: option reserve: bad value '1K' (out of range)\n"
                        "lucid: option arena_max: bad value '99999999999999999999' (out of range)\n"
                        "lucid: option mmap_threshold: bad value '9000000T' (out of range)\n");
    assert_string_equal(got.out, "limit=0 (default)\npurge_delay=500 (default)\n"
                                 "abort=1 (default)\nstats=0 (default)\nperturb=0 (default)\n"
                                 "top_pad=0 (default)\ntrim_threshold=67108864 (default)\n"
                                 "reserve=1099511627776 (default)\n");
}

static void long_values(void **state) {
    (void)state;
    char options[600] = "stats_file:/";
    memset(options + 12, 'p', 400);
    struct outcome got = run_child(options, KEYS("stats_file"));
    assert_non_null(strstr(got.err, "lucid: option stats_file: bad value '/ppp"));
    assert_non_null(strstr(got.err, "p' (path too long)\n"));
    assert_string_equal(got.out, "stats_file= (default)\n");
}

/* ------------------------------------------------------------------ in this process ---------- */

static const char *origin_of(const char *key) {
    static lu_option_info_t info;
    assert_true(info_of(key, &info));
    return info.origin;
}

static void assert_value(const char *key, const char *expected) {
    char text[64];
    assert_int_equal(lu_option_get(key, text, sizeof text), 0);
    assert_string_equal(text, expected);
}

struct row {
    const char *key, *summary;
    long initial, least, most;
};

static const struct row rows[] = {
#define LU_OPTION(id, name, kind, initial, least, most, when, unit, summary) \
    {#name, summary, initial, least, most},
#include "base/options.def"
#undef LU_OPTION
};

/* What lu_option_at lists is the table, with its defaults in effect. */
static void the_list(void **state) {
    (void)state;
    lu_option_info_t info;
    size_t count = 0;
    for (; lu_option_at(count, &info); count++) {
        assert_true(count < LU_COUNT_OF(rows));
        assert_string_equal(info.key, rows[count].key);
        assert_string_equal(info.summary, rows[count].summary);
        assert_string_equal(info.origin, "default");
        assert_string_equal(info.value, info.default_value);
        assert_int_equal(strtol(info.value, NULL, 10), rows[count].initial);
        assert_int_equal(lu__option((enum lu__option)count), rows[count].initial);
    }
    assert_int_equal(count, LU_COUNT_OF(rows));
    assert_false(lu_option_at(SIZE_MAX, &info));
}

/* The rows are ones that the parser can use, and `lucid options` can show in a line. */
static void the_table(void **state) {
    (void)state;
    for (size_t i = 0; i < LU_COUNT_OF(rows); i++) {
        const struct row *row = &rows[i];
        size_t length = strlen(row->summary);
        assert_int_equal(strspn(row->key, "abcdefghijklmnopqrstuvwxyz_"), strlen(row->key));
        assert_true(length > 10 && length < 100);
        assert_int_equal(strcspn(row->summary, "\n\t|`"), length);
        assert_true(row->least <= row->initial && row->initial <= row->most);
        for (size_t j = 0; j < i; j++) assert_string_not_equal(row->key, rows[j].key);
    }
}

static void set_by_program(void **state) {
    (void)state;
    assert_int_equal(lu_option_set("purge_delay", "750"), 0);
    assert_value("purge_delay", "750");
    assert_int_equal(lu__option(LU_OPT_PURGE_DELAY), 750);
    assert_string_equal(origin_of("purge_delay"), "program");
    assert_int_equal(lu_option_set("trim_threshold", "-1"), 0);
    assert_value("trim_threshold", "-1");
    assert_int_equal(lu_option_set("trim_threshold", "2M"), 0);
    assert_value("trim_threshold", "2097152");

    lu_option_info_t info;
    assert_true(info_of("purge_delay", &info));
    assert_string_equal(info.default_value, "500");
    assert_int_equal(lu_option_set("purge_delay", "500"), 0);
    assert_int_equal(lu_option_set("trim_threshold", "64M"), 0);
}

static void statistics_values(void **state) {
    (void)state;
    assert_int_equal(lu_option_set("stats", "json"), 0);
    assert_int_equal(lu__option(LU_OPT_STATS), LU_STATS_JSON);
    assert_value("stats", "json");
    assert_int_equal(lu_option_set("stats", "1"), 0);
    assert_int_equal(lu__option(LU_OPT_STATS), LU_STATS_TEXT);
    assert_value("stats", "1");
    assert_int_equal(lu_option_set("stats", "2"), EINVAL);
    assert_int_equal(lu_option_set("stats", "0"), 0);
}

static void set_refused(void **state) {
    (void)state;
    assert_int_equal(lu_option_set("nothing", "1"), ENOENT);
    assert_int_equal(lu_option_set("", "1"), ENOENT);
    assert_int_equal(lu_option_set("abort", "2"), EINVAL);
    assert_int_equal(lu_option_set("abort", ""), EINVAL);
    assert_int_equal(lu_option_set("limit", "1X"), EINVAL);
    assert_int_equal(lu_option_set("reserve", "1T"), EPERM);
    assert_value("abort", "1");
    assert_string_equal(origin_of("abort"), "default");
    assert_string_equal(origin_of("reserve"), "default");
}

static void get_refused(void **state) {
    (void)state;
    char text[16] = "unchanged";
    assert_int_equal(lu_option_get("nothing", text, sizeof text), ENOENT);
    assert_string_equal(text, "unchanged");
    assert_int_equal(lu_option_get("reserve", text, 13), ERANGE); /* 1099511627776: 13 digits */
    assert_int_equal(lu_option_get("reserve", text, 14), 0);
    assert_string_equal(text, "1099511627776");
    assert_int_equal(lu_option_get("reserve", text, 0), ERANGE);
}

static void paths(void **state) {
    (void)state;
    char path[300], text[300];
    lu_option_info_t info;
    memset(path, 'p', sizeof path);
    path[255] = '\0';
    assert_int_equal(lu_option_set("stats_file", path), 0);
    assert_string_equal(lu__option_stats_file, path);
    assert_int_equal(lu_option_get("stats_file", text, sizeof text), 0);
    assert_string_equal(text, path);
    assert_int_equal(lu_option_get("stats_file", text, 255), ERANGE);
    assert_true(info_of("stats_file", &info)); /* 31 bytes of it, and it shows that it was more */
    assert_int_equal(strlen(info.value), sizeof info.value - 1);
    assert_string_equal(info.value + sizeof info.value - 6, "pp...");
    path[255] = 'p';
    path[256] = '\0';
    assert_int_equal(lu_option_set("stats_file", path), EINVAL);
    assert_int_equal(strlen(lu__option_stats_file), 255);
    assert_int_equal(lu_option_set("stats_file", ""), 0);
    assert_string_equal(lu__option_stats_file, "");
}

/* ------------------------------------------------------------------ mallopt ------------------ */

static void mallopt_sets(void **state) {
    (void)state;
    assert_int_equal(lu__mallopt(M_MMAP_THRESHOLD, 1 << 20), 1);
    assert_value("mmap_threshold", "1048576");
    assert_string_equal(origin_of("mmap_threshold"), "mallopt");
    assert_int_equal(lu__mallopt(M_MMAP_THRESHOLD, 32 << 20), 1);
    assert_int_equal(lu__mallopt(M_TRIM_THRESHOLD, -1), 1);
    assert_value("trim_threshold", "-1");
    assert_int_equal(lu__mallopt(M_TRIM_THRESHOLD, 64 << 20), 1);
    assert_int_equal(lu__mallopt(M_TOP_PAD, 4096), 1);
    assert_value("top_pad", "4096");
    assert_int_equal(lu__mallopt(M_TOP_PAD, 0), 1);
    assert_int_equal(lu__mallopt(M_ARENA_MAX, 2), 1);
    assert_value("arena_max", "2");
    assert_int_equal(lu__mallopt(M_ARENA_MAX, 0), 1);
}

static void mallopt_refuses(void **state) {
    (void)state;
    static const int bad[][2] = {
        {M_MMAP_THRESHOLD, -1}, {M_MMAP_THRESHOLD, (32 << 20) + 1},
        {M_TRIM_THRESHOLD, -2}, {M_TOP_PAD, -1},
        {M_ARENA_MAX, -1},      {M_MXFAST, 64},
        {M_MMAP_MAX, 0},        {M_CHECK_ACTION, 1},
        {M_ARENA_TEST, 1},      {12345, 1},
    };
    long before[LU_OPT_COUNT];
    memcpy(before, lu__option_changes, sizeof before);
    for (size_t i = 0; i < LU_COUNT_OF(bad); i++)
        assert_int_equal(lu__mallopt(bad[i][0], bad[i][1]), 0);
    assert_memory_equal(before, lu__option_changes, sizeof before);
}

/* Filling is switched on and off at once, by mallopt and by lu_option_set. */
static void perturb(void **state) {
    (void)state;
    unsigned char *block;
    assert_int_equal(lu__mallopt(M_PERTURB, 0x1aa), 1);
    assert_int_equal(lu__option(LU_OPT_PERTURB), 0xaa);
    block = lu_malloc(100);
    for (int i = 0; i < 100; i++) assert_int_equal(block[i], 0x55);
    lu_free(block);
    block = lu_calloc(1, 100);
    for (int i = 0; i < 100; i++) assert_int_equal(block[i], 0);
    lu_free(block);

    assert_int_equal(lu_option_set("perturb", "1"), 0);
    block = lu_malloc(5000);
    for (int i = 0; i < 5000; i++) assert_int_equal(block[i], 0xfe);
    lu_free(block);
    assert_int_equal(lu__mallopt(M_PERTURB, 0x100), 1); /* not 0: fills, with the byte 0 */
    block = lu_malloc(100);
    for (int i = 0; i < 100; i++) assert_int_equal(block[i], 0xff);
    lu_free(block);

    assert_int_equal(lu__mallopt(M_PERTURB, 0), 1);
    block = lu_malloc(64);
    memset(block, 7, 64);
    lu_free(block);
    block = lu_malloc(64);
    assert_int_not_equal(block[40], 0xff);
    lu_free(block);
}

/* The limit as an option counts at once, too. */
static void limit(void **state) {
    (void)state;
    volatile size_t size = (size_t)256 << 20;
    assert_int_equal(lu_option_set("limit", "64M"), 0);
    errno = 0;
    assert_null(lu_malloc(size));
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(lu_option_set("limit", "0"), 0);
    void *block = lu_malloc(size);
    assert_non_null(block);
    lu_free(block);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "child") == 0) return child_main(argc - 2, argv + 2);
    unsetenv("LUCID_OPTIONS");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_list), /* first: nothing is set yet */
        cmocka_unit_test(no_options),      cmocka_unit_test(values_from_environment),
        cmocka_unit_test(syntax),          cmocka_unit_test(unknown_keys),
        cmocka_unit_test(bad_values),      cmocka_unit_test(long_values),
        cmocka_unit_test(set_by_program),  cmocka_unit_test(statistics_values),
        cmocka_unit_test(set_refused),     cmocka_unit_test(get_refused),
        cmocka_unit_test(paths),           cmocka_unit_test(mallopt_sets),
        cmocka_unit_test(mallopt_refuses), cmocka_unit_test(perturb),
        cmocka_unit_test(limit),           cmocka_unit_test(the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
