/*
 * fuzz_options.c - the harness `options`: any bytes as the text of LUCID_OPTIONS, and as keys and
 * values of lu_option_set.
 *
 * The text up to the first 0 is read as if it stood in the environment. What must hold afterwards:
 * every complaint is one line of printable text that begins with "lucid: option "; there are no
 * more complaints than items; and every option shows a value that is a valid value for it. The rest
 * of the input, if any, are a key and a value for lu_option_set. Values are put back at the end.
 */
#include <stdarg.h>

#include "base/format.h"
#include "base/options.h"
#include "check.h"
#include "lucid/lucid.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void __wrap_lu__print(int fd, const char *format, ...) __attribute__((format(printf, 2, 3)));

static size_t complaints;

void __wrap_lu__print(int fd, const char *format, ...) {
    char line[600];
    struct lu__text text;
    lu__text_init(&text, line, sizeof line);
    va_list args;
    va_start(args, format);
    lu__text_addv(&text, format, args);
    va_end(args);
    CHECK_EQ(fd, STDERR_FILENO);
    CHECK_THAT(text.need < 512, "a complaint of %zu bytes", text.need);
    CHECK(strncmp(line, "lucid: option ", 14) == 0);
    for (size_t i = 0; i + 1 < text.need; i++) CHECK(line[i] >= ' ' && line[i] <= '~');
    CHECK_EQ(line[text.need - 1], '\n');
    complaints++;
}

/* Items that are not empty. */
static size_t items_of(const char *text) {
    size_t items = 0;
    for (; *text != '\0'; text += *text == ',') {
        size_t length = strcspn(text, ",");
        items += length > 0;
        text += length;
    }
    return items;
}

/* What an option shows can be set again, and shows the same then. */
static void check_option(const lu_option_info_t *info) {
    char text[300], again[300], tiny[2] = {'x', 'x'};
    CHECK_EQ(lu_option_get(info->key, text, sizeof text), 0);
    int error = lu_option_get(info->key, tiny, 1);
    CHECK_EQ(error, text[0] == '\0' ? 0 : ERANGE);
    CHECK_EQ(tiny[0], '\0');
    CHECK_EQ(tiny[1], 'x');
    error = lu_option_set(info->key, text);
    CHECK_THAT(error == 0 || error == EPERM, "%s shows '%s', which is no value for it: %d",
               info->key, text, error);
    CHECK_EQ(lu_option_get(info->key, again, sizeof again), 0);
    CHECK_THAT(strcmp(text, again) == 0, "%s was '%s' and is '%s'", info->key, text, again);
}

static void check_options(void) {
    lu_option_info_t info;
    size_t count = 0;
    for (; lu_option_at(count, &info); count++) {
        CHECK(strnlen(info.value, sizeof info.value) < sizeof info.value);
        CHECK(strnlen(info.default_value, sizeof info.default_value) < sizeof info.default_value);
        CHECK(info.summary != NULL && info.origin != NULL);
        check_option(&info);
    }
    CHECK_EQ(count, LU_OPT_COUNT);
}

static void put_back(void) {
    memset(lu__option_changes, 0, sizeof lu__option_changes);
    memset(lu__option_stats_file, 0, sizeof lu__option_stats_file);
}

/* The input in strings that end, one after the other. */
struct input {
    const uint8_t *at;
    size_t left;
};

static void next_text(struct input *input, char *text, size_t text_bytes) {
    size_t length = 0;
    while (length < input->left && length < text_bytes - 1 && input->at[length] != 0) length++;
    memcpy(text, input->at, length);
    text[length] = '\0';
    input->at += length;
    input->left -= length;
    if (input->left > 0) input->at++, input->left--;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char text[5000], key[300], value[600];
    struct input input = {data, size};
    next_text(&input, text, sizeof text);
    next_text(&input, key, sizeof key);
    next_text(&input, value, sizeof value);
    complaints = 0;
    lu__options_read(text);
    CHECK_THAT(complaints <= items_of(text), "%zu complaints about %zu items", complaints,
               items_of(text));
    check_options();
    int error = lu_option_set(key, value);
    CHECK(error == 0 || error == ENOENT || error == EINVAL || error == EPERM);
    check_options();
    put_back();
    return 0;
}
