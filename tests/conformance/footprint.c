/*
 * footprint.c - the addresses that a program takes: what VSZ shows, mlockall counts, a core file
 * holds. And what happens when somebody else maps where the heap would grow.
 */
#include <malloc.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "check.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

/* Blocks of all kinds that a small program has. */
static void use_a_little(void) {
    for (size_t size = 0; size < 200000; size += 1 + size) {
        char *block = malloc(size);
        CHECK(block != NULL);
        if (size > 0) memset(block, 1, size);
        free(block);
    }
}

/* What the process has mapped: all; private and writable, what core files have of it. */
struct mapped {
    size_t all, writable;
    uintptr_t end; /* of the mapping asked for */
};

static size_t number(const char **at) {
    size_t value = 0;
    for (;; (*at)++) {
        char c = **at;
        if (c >= '0' && c <= '9') {
            value = value * 16 + (size_t)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            value = value * 16 + (size_t)(c - 'a') + 10;
        } else {
            return value;
        }
    }
}

static struct mapped look(const void *address) {
    static char text[1 << 16];
    struct mapped mapped = {0};
    size_t length = 0;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    for (ssize_t got; (got = read(fd, text + length, sizeof text - 1 - length)) > 0;) {
        length += (size_t)got;
    }
    close(fd);
    text[length] = '\0';
    for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1) {
        const char *at = line;
        size_t from = number(&at);
        at++;
        size_t end = number(&at);
        if (from >> 47 != 0) continue; /* the kernel's */
        mapped.all += end - from;
        if (at[2] == 'w') mapped.writable += end - from;
        if ((uintptr_t)address - from < end - from) mapped.end = end;
    }
    return mapped;
}

static void small_programs(void) {
    use_a_little();
    size_t all = look(NULL).all;
    CHECK_THAT(all <= 24 * CHECK_MIB, "%zu MiB of addresses", all / CHECK_MIB);
}

/* A user who may lock 24 MiB, or as much as the system lets users lock. */
static void lock_memory(void) {
    struct rlimit limit;
    use_a_little();
    CHECK_EQ(getrlimit(RLIMIT_MEMLOCK, &limit), 0);
    if (limit.rlim_max > 24 * CHECK_MIB) limit.rlim_max = 24 * CHECK_MIB;
    limit.rlim_cur = limit.rlim_max;
    CHECK_EQ(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
    if (geteuid() == 0) CHECK_EQ(setresuid(65534, 65534, 65534), 0);
    CHECK_THAT(mlockall(MCL_CURRENT | MCL_FUTURE) == 0, "mlockall: errno %d", errno);
    use_a_little();
    char *block = malloc(CHECK_MIB);
    CHECK(block != NULL);
    memset(block, 1, CHECK_MIB);
    free(block);
}

/* Of 150 MiB two thirds are freed: what is freed last, every third block, large ones between. */
static void free_most(size_t size, int which) {
    size_t n = 150 * CHECK_MIB / size, live = 0;
    char **blocks = mmap(NULL, n * sizeof *blocks, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(blocks != MAP_FAILED);
    size_t before = look(NULL).writable;
    for (size_t i = 0; i < n; i++) {
        CHECK((blocks[i] = malloc(size)) != NULL);
        memset(blocks[i], 1, size);
    }
    for (size_t i = 0; i < n; i++) {
        bool keep = which == 0 ? i < n / 3 : which == 1 ? i % (n / 8) < n / 24 : i % 3 == 0;
        if (keep) {
            live += malloc_usable_size(blocks[i]);
        } else {
            free(blocks[i]);
        }
    }
    (void)malloc_trim(0);
    size_t all = look(NULL).writable - before;
    CHECK_THAT(all <= live / 100 * 110 + 3 * CHECK_MIB, "blocks of %zu, %d: %zu KiB for %zu", size,
               which, all / 1024, live / 1024);
}

static void cores_of_the_last(void) {
    free_most(1000, 0);
}
static void cores_of_parts(void) {
    if (check_strict) free_most(1000, 1); /* glibc keeps the addresses */
}
static void cores_of_large(void) {
    free_most(CHECK_MIB, 2);
}
static void cores_of_many(void) {
    if (check_strict) free_most(300000, 2); /* as glibc does for those it has mapped */
}

static void obstacles(void) {
    enum { BLOCKS = 200 };
    static unsigned char *blocks[BLOCKS];
    void *small = malloc(100);
    CHECK(small != NULL);
    unsigned char *wish = (unsigned char *)look(small).end + 5 * CHECK_MIB;
    unsigned char *page = mmap(wish, 65536, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(page != MAP_FAILED);
    check_fill(page, 65536, 7);
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t size = i % 2 == 0 ? 300000 : 5000 + i;
        CHECK((blocks[i] = malloc(size)) != NULL);
        check_fill(blocks[i], size, i);
    }
    CHECK_FILLED(page, 65536, 7);
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t size = i % 2 == 0 ? 300000 : 5000 + i;
        CHECK_FILLED(blocks[i], size, i);
        CHECK((blocks[i] = realloc(blocks[i], 2 * size)) != NULL);
        CHECK_FILLED(blocks[i], size, i);
    }
    for (size_t i = 0; i < BLOCKS; i++) free(blocks[i]);
    CHECK_FILLED(page, 65536, 7);
    free(small);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    check_in_child("a small program has few addresses", small_programs);
    check_in_child("a user locks all of his program's memory", lock_memory);
    check_in_child("what was freed last is not there", cores_of_the_last);
    check_in_child("parts that were freed are not there", cores_of_parts);
    check_in_child("large blocks that were freed are not there", cores_of_large);
    check_in_child("many that were freed are not there", cores_of_many);
    check_in_child("somebody is in the way of growth", obstacles);
    return 0;
}
