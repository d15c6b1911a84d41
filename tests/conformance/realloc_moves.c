/*
 * realloc_moves.c - large blocks that grow by moving: contents, mappings, and what cannot be had.
 *
 * Buffers grow in turn, so that none can grow where it is, and a malloc may move their pages by
 * mremap. Every byte must survive, whatever the kernel refuses meanwhile (RLIMIT_AS, RLIMIT_DATA);
 * memory that the program has locked must stay so; and a program must not run out of mappings, of
 * which a kernel allows 65,530.
 */
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "check.h"

#ifndef MADV_COLD
#define MADV_COLD 20
#endif

struct buffer {
    unsigned char *at;
    size_t size;
    unsigned char value;
};

static void check_contents(const struct buffer *buffer) {
    const unsigned char *at = buffer->at;
    if (buffer->size == 0) return;
    if (at[0] == buffer->value && memcmp(at, at + 1, buffer->size - 1) == 0) return;
    for (size_t i = 0; i < buffer->size; i++) {
        CHECK_THAT(buffer->at[i] == buffer->value, "byte %zu of %zu is %u, not %u", i, buffer->size,
                   buffer->at[i], buffer->value);
    }
}

/* False if there is no memory; then the buffer is as it was. */
static bool resize(struct buffer *buffer, size_t size) {
    errno = 0;
    unsigned char *at = realloc(check_hidden(buffer->at), size);
    if (at == NULL) {
        CHECK_EQ(errno, ENOMEM);
        check_contents(buffer);
        return false;
    }
    buffer->at = at;
    if (buffer->size > size) buffer->size = size;
    check_contents(buffer);
    memset(at + buffer->size, buffer->value, size - buffer->size);
    buffer->size = size;
    return true;
}

static void in_turn(size_t count) {
    struct buffer buffers[8] = {{NULL, 0, 0}};
    for (size_t i = 0; i < count; i++) {
        buffers[i].value = (unsigned char)(i + 1);
        CHECK(resize(&buffers[i], 600000));
    }
    for (size_t step = 0; step < 14; step++) {
        for (size_t i = 0; i < count; i++) {
            CHECK(resize(&buffers[i], buffers[i].size / 4 * 5 + 70000));
        }
    }
    static const size_t smaller[] = {5000000, 600000, 520000, 300000, 70000, 1000};
    for (size_t k = 0; k < CHECK_COUNT_OF(smaller); k++) {
        for (size_t i = 0; i < count; i++) CHECK(resize(&buffers[i], smaller[k] + i));
    }
    for (size_t i = 0; i < count; i++) free(buffers[i].at);
    check_passed("%zu buffers grow in turn to 20 MB, and shrink", count);
}

/* ------------------------------------------------------------------ mappings ----------------- */

static size_t mappings(void) {
    static char text[65536];
    size_t lines = 0;
    ssize_t got;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    CHECK_THAT(fd >= 0, "/proc/self/maps cannot be opened");
    while ((got = read(fd, text, sizeof text)) > 0) {
        for (ssize_t i = 0; i < got; i++) lines += text[i] == '\n';
    }
    close(fd);
    return lines;
}

static void *end_at_once(void *arg) {
    return arg;
}

static void threads_start(void) {
    pthread_t threads[20];
    for (size_t i = 0; i < CHECK_COUNT_OF(threads); i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, end_at_once, NULL), 0);
    }
    for (size_t i = 0; i < CHECK_COUNT_OF(threads); i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
}

enum { MANY = 2000, LIVE = 4500 };
static char *grown[LIVE], *between[LIVE];

/* A block with another behind it grows by moving. */
static char *grow(size_t i) {
    char *at = malloc(600000);
    CHECK(at != NULL);
    at[0] = (char)i;
    at[599999] = 1;
    between[i] = malloc(70000);
    CHECK(between[i] != NULL);
    at = realloc(check_hidden(at), 1300000);
    CHECK(at != NULL && at[0] == (char)i && at[599999] == 1);
    return at;
}

static void end_blocks(size_t count, size_t before) {
    for (size_t i = 0; i < count; i++) {
        CHECK(grown[i][0] == (char)i);
        free(grown[i]);
        free(between[i]);
    }
    size_t after = mappings();
    CHECK_THAT(after <= before + 200, "%zu mappings at first, %zu when all is freed", before,
               after);
    threads_start();
}

static void many_grow_and_shrink(void) {
    size_t before = mappings(), count = check_amount(MANY);
    for (size_t i = 0; i < count; i++) {
        grown[i] = realloc(check_hidden(grow(i)), 70000);
        CHECK(grown[i] != NULL);
    }
    size_t most = mappings();
    CHECK_THAT(most <= before + 200 || !check_strict, "%zu mappings with small blocks only", most);
    end_blocks(count, before);
    check_passed("%zu blocks grown and shrunk, freed: few mappings, and threads start", count);
}

static void many_live(void) {
    size_t before = mappings(), count = check_amount(LIVE);
    for (size_t i = 0; i < count; i++) grown[i] = grow(i);
    size_t most = mappings();
    CHECK_THAT(most <= before + 4096 + 200 || !check_strict, "%zu mappings with %zu blocks", most,
               count);
    threads_start();
    end_blocks(count, before);
    check_passed("%zu blocks that have grown: a bounded number of mappings", count);
}

/* ------------------------------------------------------------------ what cannot be had ------- */

enum { HALF = 1 }; /* of what there is, as a limit */

/* The number in /proc/self/statm, in bytes: 0 address space, 5 data. */
static size_t statm(int number) {
    char text[128];
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    CHECK_THAT(length > 0, "/proc/self/statm cannot be read");
    close(fd);
    text[length] = '\0';
    const char *at = text;
    while (number-- > 0) at = strchr(at, ' ') + 1;
    return strtoul(at, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE);
}

static void grow_until_refused(__rlimit_resource_t resource, int number, size_t more) {
    struct buffer buffers[2] = {{NULL, 0, 1}, {NULL, 0, 2}};
    size_t refused = 0;
    for (size_t i = 0; i < 2; i++) CHECK(resize(&buffers[i], 900000));
    struct rlimit limit, small;
    CHECK_EQ(getrlimit(resource, &limit), 0);
    small = limit;
    small.rlim_cur = more == HALF ? statm(number) / 2 : statm(number) + more;
    CHECK_EQ(setrlimit(resource, &small), 0);
    for (size_t step = 0; step < 20; step++) {
        struct buffer *buffer = &buffers[step % 2];
        refused += !resize(buffer, buffer->size / 3 * 4 + 100000);
    }
    CHECK_EQ(setrlimit(resource, &limit), 0);
    for (size_t i = 0; i < 2; i++) CHECK(resize(&buffers[i], buffers[i].size * 2));
    for (size_t i = 0; i < 2; i++) free(buffers[i].at);
    check_passed("%s of %s%zu KiB more: %zu of 20 reallocs NULL, all contents whole",
                 number == 0 ? "RLIMIT_AS" : "RLIMIT_DATA",
                 more == HALF ? "half of what there is and " : "what there is and ", more / 1024,
                 refused);
}

static void refused_by_limits(void) {
    static const size_t more[] = {HALF, 0, 1000000, 3000000, 30000000};
    for (size_t i = 0; i < 2 * CHECK_COUNT_OF(more); i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            if (i % 2 == 0) grow_until_refused(RLIMIT_AS, 0, more[i / 2]);
            if (i % 2 == 1) grow_until_refused(RLIMIT_DATA, 5, more[i / 2]);
            _exit(0);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK_THAT(status == 0, "status 0x%x", (unsigned)status);
    }
}

/* Pages that mremap moves away leave all of their mapping unlocked, if it is not looked at. */
static void locked_memory_stays(void) {
    enum { COUNT = 5 };
    const size_t size = CHECK_MIB;
    char *blocks[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        CHECK((blocks[i] = malloc(size)) != NULL);
        CHECK_THAT(mlock(blocks[i], size) == 0, "5 MiB cannot be locked: errno %d", errno);
    }
    for (size_t i = 0; i < COUNT; i += 2) {
        CHECK((blocks[i] = realloc(check_hidden(blocks[i]), 5 * size)) != NULL);
    }
    for (size_t i = 1; i < COUNT; i += 2) { /* a hint that is refused for locked memory */
        char *page = (char *)(((uintptr_t)blocks[i] + 65536) & ~(uintptr_t)65535);
        CHECK_THAT(madvise(page, 65536, MADV_COLD) == -1 && errno == EINVAL,
                   "block %zu is no longer locked", i);
    }
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_EQ(munlock(blocks[i], size), 0);
        free(blocks[i]);
    }
    check_passed("locked memory stays locked when its neighbours move");
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    in_turn(2);
    in_turn(8);
    refused_by_limits();
    many_grow_and_shrink();
    many_live();
    locked_memory_stays();
    return 0;
}
