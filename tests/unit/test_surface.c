/*
 * test_surface.c - api/malloc, mallopt and info under lu_ and lu__ names: arguments, errno,
 * results.
 *
 * The rules of the malloc names are tested on any malloc by the programs in tests/conformance; here
 * are the choices that are lucid's own, and everything once more in the sanitizer builds, where the
 * malloc names do not exist.
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
#include <unistd.h>

#include "api/surface.h"
#include "base/base.h"
#include "base/violation.h"
#include "lucid/lucid.h"

/* The compiler warns of sizes that it knows to be impossible. */
static volatile size_t vast = SIZE_MAX;

#define FAILS(call, error)              \
    do {                                \
        errno = 0;                      \
        assert_null(call);              \
        assert_int_equal(errno, error); \
    } while (0)

/* ------------------------------------------------------------------ plain -------------------- */

static void zero_sizes(void **state) {
    (void)state;
    void *blocks[] = {lu_malloc(0),
                      lu_malloc(0),
                      lu_calloc(0, 9),
                      lu_realloc(NULL, 0),
                      lu_reallocarray(NULL, 7, 0),
                      lu_aligned_alloc(64, 0),
                      lu_valloc(0)};
    for (size_t i = 0; i < LU_COUNT_OF(blocks); i++) {
        assert_non_null(blocks[i]);
        for (size_t k = 0; k < i; k++) assert_ptr_not_equal(blocks[i], blocks[k]);
    }
    for (size_t i = 0; i < LU_COUNT_OF(blocks); i++) lu_free(blocks[i]);
}

static void too_large(void **state) {
    (void)state;
    size_t sizes[] = {vast, vast - 4095, (size_t)PTRDIFF_MAX + 1, PTRDIFF_MAX};
    for (size_t i = 0; i < LU_COUNT_OF(sizes); i++) {
        size_t size = sizes[i];
        FAILS(lu_malloc(size), ENOMEM);
        FAILS(lu_calloc(size, 1), ENOMEM);
        FAILS(lu_realloc(NULL, size), ENOMEM);
        FAILS(lu_aligned_alloc(64, size), ENOMEM);
        FAILS(lu_memalign(4096, size), ENOMEM);
        FAILS(lu_valloc(size), ENOMEM);
        FAILS(lu_pvalloc(size), ENOMEM);
        assert_int_equal(lu_good_size(size) == 0 || lu_good_size(size) >= size, 1);
    }
    assert_int_equal(lu_good_size(vast), 0);
    lu_stats_t stats; /* nor is what was refused counted anywhere */
    lu_stats_get(&stats);
    assert_true(stats.held_bytes <= (size_t)1 << 40);
    assert_true(stats.peak_held_bytes <= (size_t)1 << 40);
}

static void products_overflow(void **state) {
    (void)state;
    size_t half = (vast >> 32) + 1; /* 2^32: its square is 2^64, which is 0 */
    FAILS(lu_calloc(half, half), ENOMEM);
    FAILS(lu_calloc(vast, 2), ENOMEM);
    FAILS(lu_reallocarray(NULL, half, half), ENOMEM);
    char *block = lu_malloc(10);
    memcpy(block, "unchanged", 10);
    FAILS(lu_reallocarray(block, vast, 2), ENOMEM);
    FAILS(lu_realloc(block, vast), ENOMEM);
    assert_string_equal(block, "unchanged");
    lu_free(block);
}

static void realloc_rules(void **state) {
    (void)state;
    char *block = lu_realloc(NULL, 100);
    for (size_t i = 0; i < 100; i++) block[i] = (char)i;
    block = lu_realloc(block, 100000);
    for (size_t i = 0; i < 100; i++) assert_int_equal(block[i], (char)i);
    block = lu_reallocarray(block, 10, 5);
    for (size_t i = 0; i < 50; i++) assert_int_equal(block[i], (char)i);
    errno = EDOM;
    assert_null(lu_realloc(block, 0));
    assert_int_equal(errno, EDOM);
    assert_null(lu_reallocarray(lu_malloc(1), 0, 8));
    assert_int_equal(errno, EDOM);
}

static void calloc_clears(void **state) {
    (void)state;
    for (size_t size = 1; size < 300000; size = size * 2 + 1) {
        char *block = lu_malloc(size);
        memset(block, 0xff, size);
        lu_free(block);
        block = lu_calloc(1, size);
        for (size_t i = 0; i < size; i++) assert_int_equal(block[i], 0);
        lu_free(block);
    }
}

static void free_keeps_errno(void **state) {
    (void)state;
    for (size_t size = 1; size < (size_t)200 << 20; size *= 5) {
        void *block = lu_malloc(size);
        assert_non_null(block);
        errno = ERANGE;
        lu_free(block);
        lu_free(NULL);
        lu_free_sized(NULL, size);
        lu_free_aligned_sized(NULL, 64, size);
        assert_int_equal(errno, ERANGE);
    }
}

/* ------------------------------------------------------------------ aligned ------------------ */

static void powers_of_two(void **state) {
    (void)state;
    for (size_t alignment = 1; alignment <= (size_t)4 << 20; alignment *= 2) {
        void *blocks[3] = {lu_aligned_alloc(alignment, 50), lu_memalign(alignment, 50), NULL};
        if (alignment >= 8) assert_int_equal(lu_posix_memalign(&blocks[2], alignment, 50), 0);
        for (int i = 0; i < (alignment >= 8 ? 3 : 2); i++) {
            assert_non_null(blocks[i]);
            assert_int_equal((uintptr_t)blocks[i] % alignment, 0);
            memset(blocks[i], i, 50);
        }
        lu_free_aligned_sized(blocks[0], alignment, 50);
        lu_free(blocks[1]);
        lu_free(blocks[2]);
    }
}

static void other_alignments(void **state) {
    (void)state;
    static const size_t odd[] = {3, 5, 24, 48, 100, 1000, 6000};
    for (size_t i = 0; i < LU_COUNT_OF(odd); i++) {
        FAILS(lu_aligned_alloc(odd[i], 10), EINVAL);
        void *block = lu_memalign(odd[i], 10); /* the next power of two */
        assert_non_null(block);
        assert_int_equal((uintptr_t)block & (odd[i] - 1) & ~(odd[i] >> 1), 0);
        assert_int_equal((uintptr_t)block % ((size_t)2 << lu__log2(odd[i])), 0);
        lu_free(block);
    }
    FAILS(lu_aligned_alloc(0, 10), EINVAL);
    void *block = lu_memalign(0, 10);
    assert_non_null(block);
    lu_free(block);
    FAILS(lu_memalign(vast, 10), EINVAL);
    FAILS(lu_memalign((size_t)1 << 63, 10), ENOMEM);
    FAILS(lu_aligned_alloc((size_t)1 << 62, vast >> 2), ENOMEM);
}

static void posix_memalign_rules(void **state) {
    (void)state;
    static const size_t bad[] = {0, 1, 2, 4, 12, 24, SIZE_MAX};
    int marker;
    void *out = &marker;
    errno = EDOM;
    for (size_t i = 0; i < LU_COUNT_OF(bad); i++)
        assert_int_equal(lu_posix_memalign(&out, bad[i], 8), EINVAL);
    assert_int_equal(lu_posix_memalign(&out, 64, vast), ENOMEM);
    assert_int_equal(lu_posix_memalign(&out, (size_t)1 << 63, 1), ENOMEM);
    assert_ptr_equal(out, &marker);
    assert_int_equal(errno, EDOM);
}

static void whole_pages(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 4095, 4096, 4097, 100000};
    for (size_t i = 0; i < LU_COUNT_OF(sizes); i++) {
        void *v = lu_valloc(sizes[i]), *p = lu_pvalloc(sizes[i]);
        assert_int_equal((uintptr_t)v % 4096, 0);
        assert_int_equal((uintptr_t)p % 4096, 0);
        assert_true(lu_usable_size(p) >= (sizes[i] + 4095) / 4096 * 4096);
        lu_free(v);
        lu_free(p);
    }
}

/* ------------------------------------------------------------------ questions ---------------- */

static void sizes_told(void **state) {
    (void)state;
    assert_int_equal(lu_usable_size(NULL), 0);
    for (size_t size = 0; size < 500000; size = size + size / 3 + 1) {
        void *block = lu_malloc(size);
        assert_true(lu_usable_size(block) >= size);
        assert_int_equal(lu_usable_size(block), lu_good_size(size));
        assert_true(lu_owns(block));
        lu_free(block);
    }
    int local;
    assert_false(lu_owns(&local));
    assert_false(lu_owns(NULL));
    assert_false(lu_owns((void *)UINTPTR_MAX));
}

/* ------------------------------------------------------------------ violations --------------- */

static char message[300];
static const char *message_call;

static bool note_line(const lu_violation_t *violation, void *arg) {
    assert_ptr_equal(arg, message);
    snprintf(message, sizeof message, "%s", violation->message);
    message_call = violation->call;
    lu_free(lu_malloc(10)); /* not allowed, but it must not hang */
    errno = EPROTO;
    return true;
}

static void violation_lines(void **state) {
    (void)state;
    void *const at = (void *)0x1234;
    lu_set_violation_handler(note_line, message);
    errno = EDOM;
    lu__violation(LU_DOUBLE_FREE, "free", at, (void *)0x1000, 48);
    assert_string_equal(message, "lucid: free(0x1234): double free: block 0x1000 of 48 bytes");
    assert_string_equal(message_call, "free");
    lu__violation(LU_WILD_POINTER, "realloc", at, NULL, 0);
    assert_string_equal(message, "lucid: realloc(0x1234): wild pointer");
    lu__violation(LU_FOREIGN_POINTER, "free", NULL, NULL, 0);
    assert_string_equal(message, "lucid: free(0x0): pointer not from lucid");
    lu__violation(LU_INTERIOR_POINTER, "free", at, (void *)0x1000, 0);
    assert_string_equal(message, "lucid: free(0x1234): interior pointer: block 0x1000");
    lu__violation(LU_CORRUPT_LINK, "malloc", at, NULL, 0);
    assert_string_equal(message, "lucid: malloc(0x1234): corrupt free list");
    lu__violation(LU_SIZE_MISMATCH, "free_sized", at, NULL, 0);
    assert_string_equal(message, "lucid: free_sized(0x1234): size mismatch");
    lu__violation(LU_ALIGN_MISMATCH, "free", at, NULL, 0);
    assert_string_equal(message, "lucid: free(0x1234): alignment mismatch");
    lu__violation(LU_WRONG_HEAP, "lu_heap_free", at, NULL, 0);
    assert_string_equal(message, "lucid: lu_heap_free(0x1234): wrong heap");
    assert_int_equal(errno, EDOM);
    lu_set_violation_handler(NULL, NULL);
}

/* What `act` writes on stderr. */
static void stderr_of(void (*act)(void), char *text, size_t text_bytes) {
    int ends[2], saved = dup(STDERR_FILENO);
    assert_int_equal(pipe(ends), 0);
    assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
    close(ends[1]);
    act();
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    close(saved);
    size_t length = 0;
    ssize_t got;
    while ((got = read(ends[0], text + length, text_bytes - 1 - length)) > 0) length += (size_t)got;
    text[length] = '\0';
    close(ends[0]);
}

static unsigned nested_calls;

static bool misuse_within(const lu_violation_t *violation, void *arg) {
    (void)violation, (void)arg;
    nested_calls++;
    lu__violation(LU_WILD_POINTER, "inner", NULL, NULL, 0);
    return false;
}

static void two_violations(void) {
    lu__violation(LU_WILD_POINTER, "outer", NULL, NULL, 0);
}

/* abort:0 prints and goes on; a handler is not called from within itself. */
static void report_and_go_on(void **state) {
    (void)state;
    char text[500];
    assert_int_equal(lu_option_set("abort", "0"), 0);
    lu_set_violation_handler(misuse_within, NULL);
    stderr_of(two_violations, text, sizeof text);
    lu_set_violation_handler(NULL, NULL);
    assert_int_equal(nested_calls, 1);
    assert_string_equal(text, "lucid: inner(0x0): wild pointer\nlucid: outer(0x0): wild pointer\n");
    stderr_of(two_violations, text, sizeof text);
    assert_int_equal(nested_calls, 1);
    assert_string_equal(text, "lucid: outer(0x0): wild pointer\n");
    assert_int_equal(lu_option_set("abort", "1"), 0);
}

/* ------------------------------------------------------------------ figures ------------------ */

static void mallinfo_follows(void **state) {
    (void)state;
    enum { COUNT = 2000, SIZE = 1000 };
    static void *blocks[COUNT];
    struct mallinfo2 before = lu__mallinfo2();
    for (size_t i = 0; i < COUNT; i++) blocks[i] = lu_malloc(SIZE);
    struct mallinfo2 full = lu__mallinfo2();
    assert_in_range(full.uordblks - before.uordblks, COUNT * SIZE, COUNT * SIZE * 5 / 4);
    assert_int_equal(full.arena, full.uordblks + full.fordblks);
    assert_int_equal(full.usmblks + full.fsmblks + full.smblks, 0);
    void *huge = lu_malloc((size_t)50 << 20);
    struct mallinfo2 with_huge = lu__mallinfo2();
    assert_int_equal(with_huge.hblks, full.hblks + 1);
    assert_true(with_huge.hblkhd >= full.hblkhd + ((size_t)50 << 20));
    assert_int_equal(with_huge.uordblks, full.uordblks);
    struct mallinfo narrow = lu__mallinfo();
    assert_int_equal(narrow.uordblks, with_huge.uordblks);
    assert_int_equal(narrow.hblkhd, with_huge.hblkhd);
    lu_free(huge);
    for (size_t i = 0; i < COUNT; i++) lu_free(blocks[i]);
    assert_int_equal(lu__mallinfo2().uordblks, before.uordblks);
    assert_int_equal(lu__mallinfo2().hblkhd, before.hblkhd);
}

static void stats_lines(void **state) {
    (void)state;
    char text[2000];
    stderr_of(lu__malloc_stats, text, sizeof text);
    unsigned long system, in_use, all_system, all_in_use;
    assert_int_equal(sscanf(text,
                            "Arena 0:\nsystem bytes = %lu\nin use bytes = %lu\n"
                            "Total (incl. mmap):\nsystem bytes = %lu\nin use bytes = %lu\n",
                            &system, &in_use, &all_system, &all_in_use),
                     4);
    assert_true(system >= in_use && all_system >= all_in_use && all_in_use >= in_use);
    static const char heading[] = "The system bytes are:\n";
    char *line = strstr(text, heading);
    assert_non_null(line);
    unsigned long parts = 0;
    for (line += strlen(heading); *line != 0; line = strchr(line, '\n') + 1) {
        parts += strtoul(strchr(line, '=') + 1, NULL, 10);
    }
    assert_int_equal(parts, all_system);
    for (line = strchr(text, '='); line != NULL; line = strchr(line + 1, '='))
        assert_int_equal(strchr(line, '\n') - line, 12); /* numbers end in one column */
}

static void info_xml(void **state) {
    (void)state;
    char *text = NULL;
    size_t length = 0;
    FILE *file = open_memstream(&text, &length);
    errno = 0;
    assert_int_equal(lu__malloc_info(1, file), -1);
    assert_int_equal(errno, EINVAL);
    lu_free(lu_malloc(100));
    assert_int_equal(lu__malloc_info(0, file), 0);
    fclose(file);
    assert_int_equal(strncmp(text, "<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n", 43), 0);
    assert_string_equal(text + length - 10, "</malloc>\n");
    assert_non_null(strstr(text, "  <size from=\"112\" to=\"112\" total=\""));
    assert_non_null(strstr(text, "<total type=\"mmap\" count=\"0\" size=\"0\"/>\n"));
    assert_non_null(strstr(text, "<aspace type=\"mprotect\" size=\""));
    char *at = text;
    unsigned long system = 0, size, parts = 0;
    while ((at = strstr(at, "<system type=\"current\" size=\"")) != NULL) {
        assert_int_equal(sscanf(at, "<system type=\"current\" size=\"%lu", &system), 1);
        at++;
    }
    for (at = text; (at = strstr(at, "<held part=")) != NULL; at++) {
        assert_int_equal(sscanf(at, "<held part=\"%*[a-z_]\" size=\"%lu", &size), 1);
        parts += size;
    }
    assert_int_equal(parts, system);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zero_sizes),           cmocka_unit_test(too_large),
        cmocka_unit_test(products_overflow),    cmocka_unit_test(realloc_rules),
        cmocka_unit_test(calloc_clears),        cmocka_unit_test(free_keeps_errno),
        cmocka_unit_test(powers_of_two),        cmocka_unit_test(other_alignments),
        cmocka_unit_test(posix_memalign_rules), cmocka_unit_test(whole_pages),
        cmocka_unit_test(sizes_told),           cmocka_unit_test(violation_lines),
        cmocka_unit_test(report_and_go_on),     cmocka_unit_test(mallinfo_follows),
        cmocka_unit_test(stats_lines),          cmocka_unit_test(info_xml),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
