/* test_format.c - base/format: text into a bounded buffer, messages, sizes with a suffix. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "base/format.h"

/* What lu__text_add makes must be what printf makes. */
#define SAME_AS_PRINTF(...)                                        \
    do {                                                           \
        char ours[256], theirs[256];                               \
        struct lu__text text;                                      \
        lu__text_init(&text, ours, sizeof ours);                   \
        lu__text_add(&text, __VA_ARGS__);                          \
        int length = snprintf(theirs, sizeof theirs, __VA_ARGS__); \
        assert_string_equal(ours, theirs);                         \
        assert_int_equal(text.need, length);                       \
        assert_int_equal(text.room, sizeof ours - (size_t)length); \
    } while (0)

static void conversions(void **state) {
    (void)state;
    SAME_AS_PRINTF("plain");
    SAME_AS_PRINTF("100%%, %s and %c", "a string", '!');
    SAME_AS_PRINTF("%d %d %d", 0, INT_MAX, INT_MIN);
    SAME_AS_PRINTF("%u %x %x", UINT_MAX, 0xdeadbeefu, 0u);
    SAME_AS_PRINTF("%ld %ld", LONG_MAX, LONG_MIN);
    SAME_AS_PRINTF("%lu %lx", ULONG_MAX, ULONG_MAX);
    SAME_AS_PRINTF("%zu %zx", SIZE_MAX, (size_t)1 << 63);
    SAME_AS_PRINTF("%p", (void *)0x7fff12345678);
    SAME_AS_PRINTF("%s%s%d%s", "", "x", -1, "");
}

static void null_arguments(void **state) {
    (void)state;
    char buffer[64];
    struct lu__text text;
    const char *volatile nothing = NULL; /* volatile: the compiler would warn */
    lu__text_init(&text, buffer, sizeof buffer);
    lu__text_add(&text, "%p %s", (void *)0, nothing);
    assert_string_equal(buffer, "0x0 (null)");
}

static void several_additions(void **state) {
    (void)state;
    char buffer[64];
    struct lu__text text;
    lu__text_init(&text, buffer, sizeof buffer);
    assert_string_equal(buffer, "");
    for (int i = 0; i < 5; i++) lu__text_add(&text, "%d,", i);
    assert_string_equal(buffer, "0,1,2,3,4,");
    assert_int_equal(text.need, 10);
}

/* Every buffer size from nothing to more than enough: cut, terminated, counted, and not one byte
 * behind the buffer touched. */
static void cut_at_every_length(void **state) {
    (void)state;
    const char *whole = "block 4096 of 0xff";
    for (size_t room = 0; room <= strlen(whole) + 2; room++) {
        char buffer[64];
        memset(buffer, '#', sizeof buffer);
        struct lu__text text;
        lu__text_init(&text, buffer, room);
        lu__text_add(&text, "%s %d ", "block", 4096);
        lu__text_add(&text, "of 0x%x", 255u);
        assert_int_equal(text.need, strlen(whole));
        size_t kept = room == 0 ? 0 : LU_MIN(room - 1, strlen(whole));
        assert_memory_equal(buffer, whole, kept);
        if (room > 0) assert_int_equal(buffer[kept], '\0');
        for (size_t i = room; i < sizeof buffer; i++) assert_int_equal(buffer[i], '#');
    }
}

/* Run lu__print with its descriptor on a pipe; what came out. */
static size_t printed(char *out, size_t out_bytes, const char *argument) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    errno = EDOM;
    lu__print(ends[1], "<%s>\n", argument);
    assert_int_equal(errno, EDOM);
    close(ends[1]);
    ssize_t length = read(ends[0], out, out_bytes);
    close(ends[0]);
    assert_true(length >= 0);
    return (size_t)length;
}

static void print(void **state) {
    (void)state;
    char out[2048], argument[1001];
    size_t length = printed(out, sizeof out, "hello");
    assert_int_equal(length, 8);
    assert_memory_equal(out, "<hello>\n", 8);

    memset(argument, 'x', sizeof argument);
    argument[1000] = '\0';
    length = printed(out, sizeof out, argument);
    assert_int_equal(length, 511);
    assert_memory_equal(out, "<xxx", 4);
    assert_int_equal(out[509], 'x');
    assert_int_equal(out[510], '\n'); /* a line stays a line */
}

/* A descriptor that is closed: nothing happens, errno too stays. */
static void print_to_nowhere(void **state) {
    (void)state;
    errno = ERANGE;
    lu__print(-1, "lost");
    assert_int_equal(errno, ERANGE);
}

static void bytes_understood(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t value;
    } cases[] = {
        {"0", 0},
        {"1", 1},
        {"007", 7},
        {"4096", 4096},
        {"1K", 1024},
        {"3k", 3072},
        {"64M", (size_t)64 << 20},
        {"2g", (size_t)2 << 30},
        {"1T", (size_t)1 << 40},
        {"0T", 0},
        {"18446744073709551615", SIZE_MAX},
        {"16777215T", (size_t)16777215 << 40},
    };
    for (size_t i = 0; i < LU_COUNT_OF(cases); i++) {
        size_t value = 12345;
        assert_true(lu__parse_bytes(cases[i].text, strlen(cases[i].text), &value));
        assert_int_equal(value, cases[i].value);
    }
}

static void bytes_refused(void **state) {
    (void)state;
    static const char *const cases[] = {
        "",
        "K",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1KB",
        "1KK",
        "K1",
        "0x10",
        "1.5M",
        "1P",
        "12a4",
        "18446744073709551616",  /* 2^64                            */
        "99999999999999999999",  /* the last digit passes 2^64      */
        "16777216T",             /* 2^64 by the suffix              */
        "18446744073709551615K", /* far past 2^64 by the suffix     */
    };
    for (size_t i = 0; i < LU_COUNT_OF(cases); i++) {
        size_t value = 12345;
        assert_false(lu__parse_bytes(cases[i], strlen(cases[i]), &value));
        assert_int_equal(value, 12345);
    }
}

/* The text ends at its length, not at a terminator. */
static void bytes_by_length(void **state) {
    (void)state;
    size_t value;
    assert_true(lu__parse_bytes("64K,limit:1", 3, &value));
    assert_int_equal(value, 65536);
    assert_true(lu__parse_bytes("64K", 2, &value));
    assert_int_equal(value, 64);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conversions),
        cmocka_unit_test(null_arguments),
        cmocka_unit_test(several_additions),
        cmocka_unit_test(cut_at_every_length),
        cmocka_unit_test(print),
        cmocka_unit_test(print_to_nowhere),
        cmocka_unit_test(bytes_understood),
        cmocka_unit_test(bytes_refused),
        cmocka_unit_test(bytes_by_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
