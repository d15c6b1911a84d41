/*
 * options.c - LUCID_OPTIONS=key:value,...: parsing, values, who set them.
 *
 * All that is known about an option in advance is a row of options.def; what can change is kept
 * beside it, in arrays with the same index:
 *
 *     rows[id]                  key, summary, kind of value, bounds      constant
 *     lu__option_default(id)    default, a number                        constant
 *     lu__option_changes[id]    effective value XOR default              relaxed atomic
 *     origins[id]               who set it; NULL stands for "default"    relaxed atomic
 *     lu__option_stats_file     the one value that is text               under file_lock
 *
 * The arrays begin as zero: so the defaults hold before any code has run, and no page of the
 * library's file has to be copied for them when a process starts.
 *
 * A value arrives by one of three ways: the environment (lu__options_init, once, before anything
 * else is set), mallopt (lu__option_set_number) or the program (lu_option_set). Only the first way
 * reports on stderr, because only there no caller gets a result. Nothing here allocates, and
 * numbers are read without a lock at any time.
 *
 * Invariant: the value of an option lies within the bounds of its row, or was put there by mallopt,
 * which checks by the rules of mallopt(3).
 */
#include "base/options.h"

#include "base/base.h"
#include "base/cgroup.h"
#include "base/format.h"
#include "base/spin.h"
#include "lucid/lucid.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

enum kind { KIND_NUMBER, KIND_BYTES, KIND_LIMIT, KIND_STATS, KIND_PATH };
enum { ANY_TIME = false, AT_START = true };

struct row {
    const char *key;
    const char *summary;
    enum kind kind;
    bool start_only;  /* cannot be set once the library runs */
    long least, most; /* bounds of a number                  */
};

static const struct row rows[LU_OPT_COUNT] = {
#define LU_OPTION(id, name, kind, initial, least, most, when, unit, summary) \
    [LU_OPT_##id] = {#name, summary, KIND_##kind, when, least, most},
#include "base/options.def"
#undef LU_OPTION
};

long lu__option_changes[LU_OPT_COUNT];
char lu__option_stats_file[256]; /* written under file_lock */

static const char *origins[LU_OPT_COUNT]; /* relaxed atomics */
static struct lu__spin file_lock;
static lu__option_changed_fn *changed_fn; /* relaxed atomic */
static bool initialised;                  /* relaxed atomic */

static const char origin_environment[] = "environment";
static const char origin_program[] = "program";
static const char origin_cgroup[] = "cgroup";

/* ------------------------------------------------------------------ values ------------------- */

/* Each parser returns NULL and sets *out, or returns what is wrong with the text. */

static const char *parse_number(const char *text, size_t length, long *out) {
    bool negative = length > 0 && text[0] == '-';
    size_t i = negative ? 1 : 0;
    long value = 0;
    if (i == length) return "not a number";
    for (; i < length; i++) {
        if (text[i] < '0' || text[i] > '9') return "not a number";
        if (__builtin_mul_overflow(value, 10L, &value) ||
            __builtin_add_overflow(value, (long)(text[i] - '0'), &value))
            return "out of range";
    }
    *out = negative ? -value : value;
    return NULL;
}

static const char *parse_bytes(const char *text, size_t length, long *out) {
    size_t value;
    if (length > 0 && text[0] == '-') return parse_number(text, length, out);
    if (!lu__parse_bytes(text, length, &value)) return "not a size";
    if (value > LONG_MAX) return "out of range";
    *out = (long)value;
    return NULL;
}

/* "cgroup" stands for a number, and says where that is from. */
static const char *parse_limit(const char *text, size_t length, long *out, const char **origin) {
    struct lu__cgroup_memory memory;
    if (length != 6 || memcmp(text, "cgroup", 6) != 0) return parse_bytes(text, length, out);
    if (!lu__cgroup_read("", &memory)) return "no control group can be found";
    *out = (long)lu__cgroup_limit(&memory);
    *origin = origin_cgroup;
    return NULL;
}

static const char *parse_stats(const char *text, size_t length, long *out) {
    if (length == 4 && memcmp(text, "json", 4) == 0)
        *out = LU_STATS_JSON;
    else if (length == 1 && (*text == '0' || *text == '1'))
        *out = *text - '0';
    else
        return "not 0, 1 or json";
    return NULL;
}

static const char *set_stats_file(const char *path, size_t length) {
    if (length >= sizeof lu__option_stats_file) return "path too long";
    sigset_t signals;
    lu__spin_acquire(&file_lock, &signals);
    memcpy(lu__option_stats_file, path, length);
    memset(lu__option_stats_file + length, 0, sizeof lu__option_stats_file - length);
    lu__spin_release(&file_lock, &signals);
    return NULL;
}

static void store(enum lu__option id, long value, const char *origin) {
    __atomic_store_n(&lu__option_changes[id], value ^ lu__option_default(id), __ATOMIC_RELAXED);
    __atomic_store_n(&origins[id], origin, __ATOMIC_RELAXED);
}

/* Set an option from text. NULL, or what is wrong with the text. */
static const char *set_text(enum lu__option id, const char *text, size_t length,
                            const char *origin) {
    const struct row *row = &rows[id];
    const char *wrong = NULL;
    long value = 0;
    switch (row->kind) {
    case KIND_NUMBER:
        wrong = parse_number(text, length, &value);
        break;
    case KIND_BYTES:
        wrong = parse_bytes(text, length, &value);
        break;
    case KIND_LIMIT:
        wrong = parse_limit(text, length, &value, &origin);
        break;
    case KIND_STATS:
        wrong = parse_stats(text, length, &value);
        break;
    case KIND_PATH:
        wrong = set_stats_file(text, length);
        break;
    }
    if (wrong == NULL && (value < row->least || value > row->most)) wrong = "out of range";
    if (wrong == NULL) store(id, value, origin);
    return wrong;
}

static void add_value(struct lu__text *text, const struct row *row, long value) {
    if (row->kind == KIND_STATS && value == LU_STATS_JSON)
        lu__text_add(text, "json");
    else
        lu__text_add(text, "%ld", value);
}

/* The effective value as text; as lu__text, cut where there is no room. Returns its length. */
static size_t show_value(enum lu__option id, char *buffer, size_t buffer_bytes) {
    struct lu__text text;
    lu__text_init(&text, buffer, buffer_bytes);
    if (rows[id].kind == KIND_PATH) {
        sigset_t signals;
        lu__spin_acquire(&file_lock, &signals);
        lu__text_add(&text, "%s", lu__option_stats_file);
        lu__spin_release(&file_lock, &signals);
    } else {
        add_value(&text, &rows[id], lu__option(id));
    }
    return text.need;
}

/* ------------------------------------------------------------------ the environment ---------- */

/* The option with this key; LU_OPT_COUNT if there is none. */
static enum lu__option find(const char *key, size_t length) {
    enum lu__option id = 0;
    while (id < LU_OPT_COUNT &&
           (strncmp(rows[id].key, key, length) != 0 || rows[id].key[length] != '\0'))
        id++;
    return id;
}

/* Copy for a message: cut to the buffer, and without characters that could control a terminal. */
static void copy_printable(char *buffer, size_t buffer_bytes, const char *text, size_t length) {
    size_t count = LU_MIN(length, buffer_bytes - 1);
    for (size_t i = 0; i < count; i++) buffer[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
    buffer[count] = '\0';
}

/* key=value with a known key: the form that other allocators use. */
static bool says_equals(const char *item, size_t length) {
    const char *equals = memchr(item, '=', length);
    return equals != NULL && find(item, (size_t)(equals - item)) != LU_OPT_COUNT;
}

/* One key:value of the environment. */
static void read_item(const char *item, size_t length) {
    char key_text[64], value_text[128];
    const char *colon = memchr(item, ':', length);
    size_t key_length = colon != NULL ? (size_t)(colon - item) : length;
    enum lu__option id = find(item, key_length);
    copy_printable(key_text, sizeof key_text, item, key_length);
    if (id == LU_OPT_COUNT) {
        const char *why = says_equals(item, length) ? "no '=' here: options are key:value"
                                                    : "unknown";
        lu__print(STDERR_FILENO, "lucid: option %s: %s\n", key_text, why);
        return;
    }
    const char *value = colon != NULL ? colon + 1 : item + length;
    size_t value_length = (size_t)(item + length - value);
    const char *wrong = colon != NULL ? set_text(id, value, value_length, origin_environment)
                                      : "no value";
    if (wrong == NULL) return;
    copy_printable(value_text, sizeof value_text, value, value_length);
    lu__print(STDERR_FILENO, "lucid: option %s: bad value '%s' (%s)\n", key_text, value_text,
              wrong);
}

/* The value of LUCID_OPTIONS, or NULL; also NULL in a program that runs with more rights than its
 * user has. As secure_getenv, which costs a tiny process two page faults. */
static const char *find_environment(void) {
    static const char name[] = "LUCID_OPTIONS=";
    for (char **variable = environ; *variable != NULL; variable++) {
        const char *text = *variable;
        if (text[0] != 'L' || text[1] != 'U' || text[2] != 'C') continue;
        if (strncmp(text, name, sizeof name - 1) != 0) continue;
        return getauxval(AT_SECURE) == 0 ? text + sizeof name - 1 : NULL;
    }
    return NULL;
}

void lu__options_read(const char *text) {
    const char *item = text;
    while (*item != '\0') {
        size_t length = strcspn(item, ",");
        if (length > 0) read_item(item, length);
        item += length;
        item += *item == ',';
    }
}

void lu__options_init(void) {
    if (environ == NULL) return;
    if (__atomic_exchange_n(&initialised, true, __ATOMIC_RELAXED)) return;
    const char *text = find_environment();
    if (text != NULL) lu__options_read(text);
}

/* ------------------------------------------------------------------ mallopt and the program -- */

static void tell_changed(enum lu__option id) {
    lu__option_changed_fn *changed = __atomic_load_n(&changed_fn, __ATOMIC_RELAXED);
    if (changed != NULL) changed(id);
}

void lu__option_set_number(enum lu__option id, long value, const char *origin) {
    lu__options_init();
    store(id, value, origin);
    tell_changed(id);
}

void lu__options_on_change(lu__option_changed_fn *changed) {
    __atomic_store_n(&changed_fn, changed, __ATOMIC_RELAXED);
}

int lu_option_set(const char *key, const char *value) {
    lu__options_init();
    enum lu__option id = find(key, strlen(key));
    if (id == LU_OPT_COUNT) return ENOENT;
    if (rows[id].start_only) return EPERM;
    if (set_text(id, value, strlen(value), origin_program) != NULL) return EINVAL;
    tell_changed(id);
    return 0;
}

int lu_option_get(const char *key, char *text, size_t text_bytes) {
    lu__options_init();
    enum lu__option id = find(key, strlen(key));
    if (id == LU_OPT_COUNT) return ENOENT;
    return show_value(id, text, text_bytes) < text_bytes ? 0 : ERANGE;
}

bool lu_option_at(size_t index, lu_option_info_t *out) {
    lu__options_init();
    if (index >= LU_OPT_COUNT) return false;
    enum lu__option id = (enum lu__option)index;
    const char *origin = __atomic_load_n(&origins[id], __ATOMIC_RELAXED);
    out->key = rows[id].key;
    out->summary = rows[id].summary;
    out->origin = origin != NULL ? origin : "default";
    if (show_value(id, out->value, sizeof out->value) >= sizeof out->value)
        memcpy(out->value + sizeof out->value - 4, "...", 4);

    struct lu__text text;
    lu__text_init(&text, out->default_value, sizeof out->default_value);
    if (rows[id].kind != KIND_PATH) add_value(&text, &rows[id], lu__option_default(id));
    return true;
}

void lu__options_fork_child(void) {
    lu__spin_reset(&file_lock);
}
