/*
 * test_random.c - lu__os_random, with the auxiliary vector in our hands.
 *
 * libc makes its stack canary and the guard of its pointers of the same 16 bytes, so these must not
 * follow from what the library shows. That is what the hash is for (test_siphash.c); here it is
 * seen that all of them go into it, that no two words are the same, and what is done without them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/auxv.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "os/os.h"

static const unsigned char *given; /* for AT_RANDOM */

unsigned long __real_getauxval(unsigned long type);
unsigned long __wrap_getauxval(unsigned long type);

unsigned long __wrap_getauxval(unsigned long type) {
    return type == AT_RANDOM ? (unsigned long)(uintptr_t)given : __real_getauxval(type);
}

/* Every call gives another word, and no bit is always or never set. */
static void draw(size_t count) {
    enum { MOST = 2000 };
    static uint64_t words[MOST];
    uint64_t all = ~(uint64_t)0, any = 0;
    assert_true(count <= MOST);
    for (size_t i = 0; i < count; i++) {
        words[i] = lu__os_random();
        all &= words[i];
        any |= words[i];
        for (size_t k = 0; k < i; k++) assert_true(words[k] != words[i]);
    }
    assert_int_equal(all, 0);
    assert_true(any == ~(uint64_t)0);
}

static void all_results_differ(void **state) {
    (void)state;
    static const unsigned char zeros[17];
    given = zeros + 1; /* at any address */
    draw(2000);
}

/* The next word with these 16 bytes, in a child: so it is always the word of the same number. */
static uint64_t word_with(const unsigned char bytes[16]) {
    uint64_t word = 0;
    int ends[2], status;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        given = bytes;
        word = lu__os_random();
        _exit(write(ends[1], &word, sizeof word) == sizeof word ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(read(ends[0], &word, sizeof word), sizeof word);
    close(ends[0]);
    close(ends[1]);
    return word;
}

static void each_bit_of_the_bytes_matters(void **state) {
    (void)state;
    unsigned char bytes[16] = {0};
    uint64_t word = word_with(bytes);
    assert_true(word_with(bytes) == word);
    for (size_t bit = 0; bit < 128; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_true(word_with(bytes) != word);
        bytes[bit / 8] = 0;
    }
}

static void without_random_bytes_the_kernel_is_asked(void **state) {
    (void)state;
    given = NULL;
    draw(500);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_results_differ),
        cmocka_unit_test(each_bit_of_the_bytes_matters),
        cmocka_unit_test(without_random_bytes_the_kernel_is_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
