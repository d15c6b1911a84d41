/*
 * check.h - what the conformance programs share: checks that print both sides, patterns in blocks,
 * a random generator, resident memory, and the command line.
 *
 * A conformance program runs on any malloc: on the C library's by itself, on another by LD_PRELOAD.
 * It prints one line for everything that it has checked and ends with 0, or prints FILE:LINE and
 * what was wrong and ends with 1. Nothing here calls malloc or stdio, so that a program can check
 * in the middle of a constructor, a fork or an exhausted address space.
 *
 *   --strict         also check what lucid promises beyond the C library it stands in for
 *   CHECK_SYMBOL=S   fail unless the dynamic symbol S is there: proof that the preload took place
 *   CHECK_QUIRKS=a,b known deviations of the malloc under test; the output says what they excuse
 *   CHECK_SCALE=N    a malloc that is slow: divide the amounts of work by N
 *   CHECK_SLOW=N     a machine that is slow: take a program for hung only after N times the time
 */
#ifndef CHECK_H
#define CHECK_H

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK_UNUSED __attribute__((unused))
#define CHECK_KIB ((size_t)1 << 10)
#define CHECK_MIB ((size_t)1 << 20)
#define CHECK_COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

/* How a program ends that has found something. */
#ifndef CHECK_END
#define CHECK_END() _exit(1)
#endif

static bool check_strict CHECK_UNUSED;

CHECK_UNUSED static void check_write(int fd, const char *text, size_t length) {
    while (length > 0) {
        ssize_t done = write(fd, text, length);
        if (done <= 0) return;
        text += done;
        length -= (size_t)done;
    }
}

__attribute__((unused, noreturn, format(printf, 3, 4))) static void
check_failed(const char *file, int line, const char *format, ...) {
    char text[512];
    int used = snprintf(text, sizeof text, "%s:%d: ", file, line);
    va_list args;
    va_start(args, format);
    used += vsnprintf(text + used, sizeof text - (size_t)used - 1, format, args);
    va_end(args);
    size_t length = (size_t)used < sizeof text - 2 ? (size_t)used : sizeof text - 2;
    text[length] = '\n';
    check_write(STDERR_FILENO, text, length + 1);
    CHECK_END();
}

/* The condition must hold; prints its text otherwise. */
#define CHECK(x) ((x) ? (void)0 : check_failed(__FILE__, __LINE__, "not true: %s", #x))
/* As CHECK with words of the caller's: CHECK_THAT(p != NULL, "malloc(%zu) gave NULL", n). */
#define CHECK_THAT(x, ...) ((x) ? (void)0 : check_failed(__FILE__, __LINE__, __VA_ARGS__))
#define CHECK_EQ(a, b)                                                                         \
    do {                                                                                       \
        long long check_a = (long long)(a), check_b = (long long)(b);                          \
        CHECK_THAT(check_a == check_b, "%s is %lld, not %lld (%s)", #a, check_a, check_b, #b); \
    } while (0)

/* Say on stdout what has been checked. */
__attribute__((unused, format(printf, 1, 2))) static void check_passed(const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    int used = vsnprintf(text, sizeof text - 1, format, args);
    va_end(args);
    size_t length = (size_t)used < sizeof text - 1 ? (size_t)used : sizeof text - 2;
    text[length] = '\n';
    check_write(STDOUT_FILENO, "ok: ", 4);
    check_write(STDOUT_FILENO, text, length + 1);
}

/* True if CHECK_QUIRKS names this deviation; then the output says that it was excused. */
CHECK_UNUSED static bool check_quirk(const char *name) {
    const char *at = getenv("CHECK_QUIRKS");
    size_t length = strlen(name);
    while (at != NULL && *at != '\0') {
        size_t word = strcspn(at, ",");
        if (word == length && memcmp(at, name, length) == 0) {
            check_passed("(excused by CHECK_QUIRKS: %s)", name);
            return true;
        }
        at += word;
        if (*at == ',') at++;
    }
    return false;
}

/* The number in the variable `name`, 1 if there is none. */
CHECK_UNUSED static size_t check_factor(const char *name) {
    const char *text = getenv(name);
    if (text == NULL || *text == '\0') return 1;
    size_t factor = strtoul(text, NULL, 10);
    CHECK_THAT(factor > 0, "%s=%s is not a number above 0", name, text);
    return factor;
}

/* An amount of work, or its part by CHECK_SCALE. */
CHECK_UNUSED static size_t check_amount(size_t full) {
    size_t scale = check_factor("CHECK_SCALE");
    return full > scale ? full / scale : 1;
}

/* Who is not done by then hangs, and is ended by SIGALRM. */
CHECK_UNUSED static void check_alarm(unsigned seconds) {
    (void)alarm(seconds * (unsigned)check_factor("CHECK_SLOW"));
}

/* Do it in a child of its own, whose limits and addresses end with it; it must come to its end. */
CHECK_UNUSED static void check_in_child(const char *name, void (*body)(void)) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        body();
        _exit(0);
    }
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_THAT(status == 0, "%s: status 0x%x", name, (unsigned)status);
    check_passed("%s", name);
}

/* A symbol that the loaded module must have. */
CHECK_UNUSED static void *check_symbol(void *handle, const char *symbol) {
    void *address = dlsym(handle, symbol);
    CHECK_THAT(address != NULL, "there is no %s", symbol);
    return address;
}

/* To be called first in main. */
CHECK_UNUSED static void check_begin(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--strict") == 0) check_strict = true;
    }
    const char *symbol = getenv("CHECK_SYMBOL");
    if (symbol != NULL && *symbol != '\0') {
        CHECK_THAT(dlsym(RTLD_DEFAULT, symbol) != NULL,
                   "the malloc under test is not loaded: no symbol %s", symbol);
    }
}

/* The compiler can no longer know where the pointer is from, or what the number is. */
CHECK_UNUSED static void *check_hidden(void *block) {
    __asm__ volatile("" : "+r"(block) : : "memory");
    return block;
}
CHECK_UNUSED static size_t check_size(size_t size) {
    __asm__ volatile("" : "+r"(size));
    return size;
}

/* ------------------------------------------------------------------ patterns ----------------- */

CHECK_UNUSED static uint64_t check_mix(uint64_t x) {
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* Fill a block with a pattern that depends on the seed and on the place in the block. */
CHECK_UNUSED static void check_fill(void *block, size_t size, uint64_t seed) {
    unsigned char *at = (unsigned char *)block;
    uint64_t word = check_mix(seed + 1);
    size_t i = 0;
    for (; i + 8 <= size; i += 8, word += 0x9e3779b97f4a7c15u) memcpy(at + i, &word, 8);
    memcpy(at + i, &word, size - i);
}

/* Index of the first byte that is not what check_fill wrote, or `size` if all are. */
CHECK_UNUSED static size_t check_changed(const void *block, size_t size, uint64_t seed) {
    const unsigned char *at = (const unsigned char *)block;
    uint64_t word = check_mix(seed + 1);
    size_t i = 0;
    for (; i + 8 <= size; i += 8, word += 0x9e3779b97f4a7c15u) {
        if (memcmp(at + i, &word, 8) != 0) break;
    }
    size_t rest = size - i < 8 ? size - i : 8;
    const unsigned char *expected = (const unsigned char *)&word;
    for (size_t k = 0; k < rest; k++) {
        if (at[i + k] != expected[k]) return i + k;
    }
    return size;
}

/* The block must hold what check_fill wrote with this seed. */
#define CHECK_FILLED(block, size, seed)                                              \
    do {                                                                             \
        size_t check_n = (size), check_at = check_changed((block), check_n, (seed)); \
        CHECK_THAT(check_at == check_n, "block %p of %zu bytes changed at byte %zu", \
                   (void *)(block), check_n, check_at);                              \
    } while (0)

/* Index of the first byte that is not 0, or `size`. */
CHECK_UNUSED static size_t check_nonzero(const void *block, size_t size) {
    const unsigned char *at = (const unsigned char *)block;
    if (size == 0 || (at[0] == 0 && memcmp(at, at + 1, size - 1) == 0)) return size;
    size_t i = 0;
    while (at[i] == 0) i++;
    return i;
}

#define CHECK_ZERO(block, size)                                                          \
    do {                                                                                 \
        size_t check_n = (size), check_at = check_nonzero((block), check_n);             \
        CHECK_THAT(check_at == check_n, "block %p of %zu bytes is not zero at byte %zu", \
                   (void *)(block), check_n, check_at);                                  \
    } while (0)

#define CHECK_ALIGNED(block, alignment)                                                            \
    CHECK_THAT(((uintptr_t)(block) & ((uintptr_t)(alignment)-1)) == 0, "%p is not aligned to %zu", \
               (void *)(block), (size_t)(alignment))

/* ------------------------------------------------------------------ numbers ------------------ */

/* The next of a row of sizes that holds every size to 1,100 and then the neighbourhood of eight
 * points in each doubling, where size classes of any scheme begin and end. */
CHECK_UNUSED static size_t check_next_size(size_t size) {
    if (size < 1100) return size + 1;
    size_t step = ((size_t)1 << (63 - __builtin_clzl(size))) / 8;
    size_t over = size & (step - 1);
    if (over == 0) return size + 1;
    if (over < 16) return size - over + 16;
    return over == step - 1 ? size + 1 : size - over + step - 1;
}

/* 64 random bits; the state may begin with anything. */
CHECK_UNUSED static uint64_t check_random(uint64_t *state) {
    *state += 0x9e3779b97f4a7c15u;
    return check_mix(*state);
}

/* A random size below 2 to the power `bits`, small ones as likely as large ones. */
CHECK_UNUSED static size_t check_random_size(uint64_t *state, unsigned bits) {
    uint64_t word = check_random(state);
    unsigned shift = (unsigned)(word & 0xff) % bits;
    return (size_t)((word >> 8) & (((uint64_t)2 << shift) - 1));
}

/*
 * Have the kernel fill no huge pages of its own accord: they hold 2 MiB, or 32 MiB where pages have
 * 16 KiB, for a word that is touched. For programs that measure closely what malloc touches. QEMU's
 * user mode knows no such call; there nothing says that its host has no huge pages.
 */
CHECK_UNUSED static void check_small_pages(void) {
    CHECK_THAT(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0 || errno == EINVAL,
               "PR_SET_THP_DISABLE: errno %d", errno);
}

/* Resident memory of this process, in bytes. */
CHECK_UNUSED static size_t check_rss_bytes(void) {
    char text[128];
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    CHECK_THAT(fd >= 0, "/proc/self/statm cannot be opened");
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    CHECK(length > 0);
    text[length] = '\0';
    const char *at = strchr(text, ' ');
    CHECK(at != NULL);
    return strtoul(at, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE);
}

#endif
