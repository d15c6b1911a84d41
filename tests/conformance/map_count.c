/*
 * map_count.c - a process with as many mappings as vm.max_map_count allows.
 *
 * The program splits a mapping of its own into tens of thousands until the kernel says ENOMEM. From
 * then on an mmap, a munmap or an mprotect in the middle of a mapping, or an mremap can fail at any
 * time. Allocations give a block or NULL with ENOMEM, contents stay, frees keep errno; and when the
 * mappings are gone, all is as before.
 */
#include <pthread.h>
#include <sys/mman.h>

#include "check.h"
#include "family.h"

enum { LIVE = 3000, ROUNDS = 60000 };

static void *blocks[LIVE];
static size_t sizes[LIVE];
static size_t refused;

/* Split until no more mappings are to be had, then give `spare` back. */
static char *use_up_mappings(size_t *length, size_t spare) {
    size_t pages = 0, most = 0, page = (size_t)sysconf(_SC_PAGESIZE);
    char text[32] = "";
    int fd = open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);
    CHECK_THAT(fd >= 0 && read(fd, text, sizeof text - 1) > 0, "vm.max_map_count is not readable");
    close(fd);
    most = strtoul(text, NULL, 10);
    CHECK_THAT(most >= 1000 && most <= 4000000, "vm.max_map_count is %zu: out of this test's range",
               most);
    *length = 2 * (most + 1000) * page;
    char *area = mmap(NULL, *length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(area != MAP_FAILED);
    while (mprotect(area + pages * page, page, PROT_READ) == 0) {
        pages += 2;
        CHECK_THAT(pages < *length / page, "the kernel does not limit the mappings");
    }
    CHECK_EQ(errno, ENOMEM);
    for (size_t i = 0; i < spare / 2 && pages >= 2; i++) {
        pages -= 2;
        CHECK_EQ(mprotect(area + pages * page, page, PROT_NONE), 0);
    }
    return area;
}

static void renew(size_t i, uint64_t *state, size_t round) {
    if (blocks[i] != NULL) CHECK_FILLED(blocks[i], sizes[i], i);
    unsigned bits = round % 300 == 0 ? 24 : round % 20 == 0 ? 18 : 11;
    size_t size = check_random_size(state, bits);
    const struct family *family = &family_table[check_random(state) % FAMILY_COUNT];
    void *block;
    errno = 0;
    if (round % 4 == 0 && blocks[i] != NULL) {
        size_t same = size < sizes[i] ? size : sizes[i];
        block = realloc(check_hidden(blocks[i]), ++size);
        if (block != NULL) CHECK_FILLED(block, same / 8 * 8, i);
    } else {
        block = family->alloc(size);
        if (block != NULL) {
            CHECK_ALIGNED(block, family->alignment);
            if (family->zeroed) CHECK_ZERO(block, size);
            errno = 4711;
            free(blocks[i]);
            CHECK_EQ(errno, 4711);
        }
    }
    if (block == NULL) {
        CHECK_EQ(errno, ENOMEM);
        if (blocks[i] != NULL) CHECK_FILLED(blocks[i], sizes[i], i);
        refused++;
        return;
    }
    check_fill(block, size, i);
    blocks[i] = block;
    sizes[i] = size;
}

static void churn(uint64_t seed) {
    uint64_t state = seed;
    size_t rounds = check_amount(ROUNDS);
    for (size_t round = 0; round < rounds; round++) {
        renew(check_random(&state) % LIVE, &state, round);
        if (round % 10000 == 9999) malloc_trim(0);
    }
}

static void free_all(void) {
    for (size_t i = 0; i < LIVE; i++) {
        if (blocks[i] != NULL) CHECK_FILLED(blocks[i], sizes[i], i);
        errno = -3;
        free(blocks[i]);
        CHECK_EQ(errno, -3);
        blocks[i] = NULL;
    }
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    static const size_t spares[] = {0, 4, 40};
    for (size_t i = 0; i < check_amount(CHECK_COUNT_OF(spares)); i++) {
        churn(i); /* a heap with holes already */
        CHECK_THAT(refused == 0, "%zu allocations failed without need", refused);
        size_t length;
        char *area = use_up_mappings(&length, spares[i]);
        churn(i + 10);
        if (i == 1) free_all();
        CHECK_EQ(munmap(area, length), 0);
        check_passed(
            "with %zu mappings left: %zu of %zu allocations NULL with ENOMEM, nothing lost",
            spares[i], refused, check_amount(ROUNDS));
        refused = 0;
    }
    churn(20);
    CHECK_THAT(refused == 0, "%zu allocations failed when the mappings were gone", refused);
    free_all();
    void *block = malloc(64 * CHECK_MIB);
    CHECK(block != NULL);
    free(block);
    check_passed("all as before when the mappings are gone");
    return 0;
}
