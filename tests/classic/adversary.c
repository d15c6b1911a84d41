/*
 * adversary.c - for each classic allocator a sequence of calls that is known to hurt it, and what
 * it does to it, in numbers; beside it another allocator that bears the same calls.
 *
 *     classic_adversary CASE|all
 *
 * Sources: P. R. Wilson, M. S. Johnstone, M. Neely, D. Boles, Dynamic Storage Allocation: A Survey
 * and Critical Review, 1995 (litter, scattering, slivers); D. E. Knuth, The Art of Computer
 * Programming vol. 1, 2.5 (worst fit, the buddy system's internal waste).
 *
 * Each case prints one line with its numbers. What is not as claimed ends the program with a line
 * and status 1.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heap.h"

enum { MANY = 4000 };

static void *blocks[MANY]; /* of one heap in one case */

#define REQUIRE(x) ((x) ? (void)0 : heap_fail("line %d: %s does not hold", __LINE__, #x))

/* ---------------------------------------------------------------- helpers */

static struct lu__classic *open_heap(const char *name) {
    const struct lu__policy *policy = lu__policy_find(name);
    struct lu__classic_config config = {.tracked = true};
    if (policy == NULL) heap_fail("no policy %s", name);
    return heap_create(policy, &config, NULL);
}

static void close_heap(struct lu__classic *heap) {
    heap_check(heap);
    lu__classic_destroy(heap);
}

static void *take(struct lu__classic *heap, size_t bytes) {
    void *payload = lu__classic_alloc(heap, bytes);
    if (payload == NULL) heap_fail("%s: no %zu bytes", heap->policy->name, bytes);
    return payload;
}

static struct lu__classic_stats look(struct lu__classic *heap) {
    struct lu__classic_stats stats;
    heap_check(heap);
    lu__classic_stats(heap, &stats);
    return stats;
}

/* Free blocks of at most `most` bytes, header included. */
struct small {
    size_t most, count;
};

static bool count_small(void *arg, const struct lu__block *block) {
    struct small *small = arg;
    small->count += block->state == LU_BLOCK_FREE && block->bytes <= small->most;
    return true;
}

static size_t small_free(struct lu__classic *heap, size_t most) {
    struct small small = {most, 0};
    lu__classic_walk(heap, count_small, &small);
    return small.count;
}

/* ---------------------------------------------------------------- first: litter at the front */

/* Free blocks looked at for each alloc, behind `holes` holes that are too small. */
static double searches_behind(const char *name, size_t holes) {
    enum { CALLS = 500 };
    struct lu__classic *heap = open_heap(name);
    for (size_t i = 0; i < 2 * holes; i++) blocks[i] = take(heap, 24);
    for (size_t i = 0; i < 2 * holes; i += 2) lu__classic_free(heap, blocks[i]);
    void *large = take(heap, 200); /* next fit leaves the litter behind, once */
    uint64_t before = heap->counters.searches;
    for (int i = 0; i < CALLS; i++) (void)take(heap, 200);
    double each = (double)(heap->counters.searches - before) / CALLS;
    lu__classic_free(heap, large);
    close_heap(heap);
    return each;
}

static void first_litter(void) {
    double few = searches_behind("first", 100), many = searches_behind("first", 1000);
    double next = searches_behind("next", 1000), tree = searches_behind("best_tree", 1000);
    printf("first  small holes at the front: %.1f free blocks looked at behind 100, %.1f behind "
           "1000; next %.1f, best_tree %.1f\n",
           few, many, next, tree);
    REQUIRE(few > 90);
    REQUIRE(many > 9 * few);
    REQUIRE(next < 20);
    REQUIRE(tree < 40);
}

/* ---------------------------------------------------------------- next: what stays is scattered */

/* Small blocks that stay among large ones of which eight live at a time: what can no longer be had
 * in one piece when the large ones are gone. */
static double scatter(const char *name) {
    enum { STAY = 100, WINDOW = 8 };
    struct lu__classic *heap = open_heap(name);
    lu__classic_free(heap, take(heap, LU_MIB)); /* room for all */
    for (int i = 0; i < STAY; i++) {
        (void)take(heap, 24);
        if (i >= WINDOW) lu__classic_free(heap, blocks[i - WINDOW]);
        blocks[i] = take(heap, 8 * LU_KIB);
    }
    for (int i = STAY - WINDOW; i < STAY; i++) lu__classic_free(heap, blocks[i]);
    double lost = look(heap).external;
    close_heap(heap);
    return lost;
}

static void next_scatter(void) {
    double next = scatter("next"), first = scatter("first"), best = scatter("best");
    printf("next   100 small blocks that stay: external fragmentation %.2f; first %.2f, best "
           "%.2f\n",
           next, first, best);
    REQUIRE(next > 0.75);
    REQUIRE(first < 0.2);
    REQUIRE(best < 0.2);
}

/* ---------------------------------------------------------------- best: slivers */

/* Requests that are a little smaller than the holes there are. */
static size_t slivers(const char *name) {
    enum { HOLES = 200 };
    struct lu__classic *heap = open_heap(name);
    void *large = take(heap, LU_MIB);
    (void)take(heap, 24);
    for (int i = 0; i < HOLES; i++) {
        blocks[i] = take(heap, 1064);
        (void)take(heap, 24);
    }
    lu__classic_free(heap, large);
    for (int i = 0; i < HOLES; i++) lu__classic_free(heap, blocks[i]);
    for (int i = 0; i < HOLES; i++) (void)take(heap, 1016);
    size_t count = small_free(heap, 64);
    close_heap(heap);
    return count;
}

static void best_slivers(void) {
    size_t best = slivers("best"), tree = slivers("best_tree"), first = slivers("first");
    size_t worst = slivers("worst");
    printf("best   200 requests into holes 48 bytes larger: %zu slivers; best_tree %zu, first "
           "%zu, worst %zu\n",
           best, tree, first, worst);
    REQUIRE(best == 200 && tree == 200);
    REQUIRE(first == 0 && worst == 0);
}

/* ---------------------------------------------------------------- worst: no large block stays */

/* Small requests, for which there are small holes; then a large one, for which there was a place.
 * Bytes by which the break had to rise. */
static size_t large_destroyed(const char *name) {
    enum { HOLES = 200 };
    struct lu__classic *heap = open_heap(name);
    void *large = take(heap, LU_MIB);
    for (int i = 0; i < HOLES; i++) {
        (void)take(heap, 24);
        blocks[i] = take(heap, 4088);
    }
    (void)take(heap, 24);
    lu__classic_free(heap, large);
    for (int i = 0; i < HOLES; i++) lu__classic_free(heap, blocks[i]);
    while (look(heap).free_bytes > LU_MIB + LU_MIB / 2) (void)take(heap, 4088);
    size_t before = heap->area.broken;
    (void)take(heap, LU_MIB);
    size_t rise = heap->area.broken - before;
    close_heap(heap);
    return rise;
}

static void worst_large(void) {
    size_t worst = large_destroyed("worst"), best = large_destroyed("best");
    printf("worst  a free block of 1 MiB and small requests that small holes would do for: the "
           "break rises by %zu bytes for the next 1 MiB; best %zu\n",
           worst, best);
    REQUIRE(worst > LU_MIB / 2);
    REQUIRE(best == 0);
}

/* ---------------------------------------------------------------- buddy: half of each block */

static double waste(const char *name) {
    struct lu__classic *heap = open_heap(name);
    for (unsigned k = 10; k <= 16; k++) {
        for (int i = 0; i < 20; i++) (void)take(heap, ((size_t)1 << k) + 1);
    }
    double lost = look(heap).internal;
    close_heap(heap);
    return lost;
}

static void buddy_waste(void) {
    double buddy = waste("buddy"), first = waste("first");
    printf("buddy  requests of 2^k + 1 bytes: internal fragmentation %.3f; first %.3f\n", buddy,
           first);
    REQUIRE(buddy > 0.45 && buddy < 0.51);
    REQUIRE(first < 0.02);
}

/* ---------------------------------------------------------------- slab: one object each */

static void slab_pinned(void) {
    struct lu__classic *heap = open_heap("slab");
    uintptr_t page = 0;
    size_t full, pinned, kept = 0;
    for (int i = 0; i < MANY; i++) blocks[i] = take(heap, 64);
    full = look(heap).held;
    /* One object of each page stays. */
    for (int i = 0; i < MANY; i++) {
        uintptr_t its = (uintptr_t)blocks[i] / LU_OS_PAGE_LEAST;
        if (its != page) {
            blocks[kept++] = blocks[i];
            page = its;
        } else {
            lu__classic_free(heap, blocks[i]);
        }
    }
    lu__classic_trim(heap);
    pinned = look(heap).held;
    size_t asked = look(heap).asked_bytes;
    for (size_t i = 0; i < kept; i++) lu__classic_free(heap, blocks[i]);
    lu__classic_trim(heap);
    size_t after = look(heap).held;
    printf("slab   %d objects hold %zu bytes; %zu of them, %zu bytes, hold %zu; none hold %zu\n",
           MANY, full, kept, asked, pinned, after);
    REQUIRE(asked < full / 20);
    REQUIRE(pinned > full / 10 * 8);
    REQUIRE(after < full / 4);
    close_heap(heap);
}

/* ---------------------------------------------------------------- one block on top of the break */

static void pinned_by_top(const char *name, bool shrinks) {
    enum { BLOCKS = 1000 };
    struct lu__classic *heap = open_heap(name);
    for (int i = 0; i < BLOCKS; i++) blocks[i] = take(heap, 4000);
    void *top = take(heap, 4000);
    size_t full = look(heap).held;
    for (int i = 0; i < BLOCKS; i++) lu__classic_free(heap, blocks[i]);
    lu__classic_trim(heap);
    size_t pinned = look(heap).broken;
    lu__classic_free(heap, top);
    size_t after = look(heap).held;
    printf("%-6s one block on top: %zu bytes held, %zu when all others are free, %zu without it\n",
           name, full, pinned, after);
    REQUIRE(full > 1000 * 4000);
    REQUIRE(pinned > full / 10 * 9);
    if (shrinks) {
        REQUIRE(after <= 256 * LU_KIB);
    } else {
        REQUIRE(after == full);
    }
    close_heap(heap);
}

static void top_pins(void) {
    static const char *const rise_only[] = {"kr", "first", "next", "best", "best_tree", "worst"};
    for (size_t i = 0; i < LU_COUNT_OF(rise_only); i++) pinned_by_top(rise_only[i], false);
    pinned_by_top("dl", true);
    pinned_by_top("pt", true);
}

/* ---------------------------------------------------------------- pt: caches hold off merging */

static size_t free_pieces(const char *name, size_t *cached) {
    enum { BLOCKS = 100 };
    struct lu__classic *heap = open_heap(name);
    for (int i = 0; i < BLOCKS; i++) blocks[i] = take(heap, 24);
    (void)take(heap, 4000);
    for (int i = 0; i < BLOCKS; i++) lu__classic_free(heap, blocks[i]);
    struct lu__classic_stats stats = look(heap);
    *cached = stats.cached_bytes;
    size_t pieces = stats.free_blocks;
    close_heap(heap);
    return pieces;
}

static void pt_caches(void) {
    size_t pt_cached, dl_cached, pt = free_pieces("pt", &pt_cached);
    size_t dl = free_pieces("dl", &dl_cached);
    printf("pt     100 freed neighbours: %zu pieces, %zu bytes cached; dl: %zu pieces\n", pt,
           pt_cached, dl);
    REQUIRE(pt >= 100 && pt_cached >= 100 * 32);
    REQUIRE(dl <= 2 && dl_cached == 0);

    /* A large request makes pt merge its fast bins; the tcache keeps its seven. */
    struct lu__classic *heap = open_heap("pt");
    for (int i = 0; i < 100; i++) blocks[i] = take(heap, 24);
    (void)take(heap, 4000);
    for (int i = 0; i < 100; i++) lu__classic_free(heap, blocks[i]);
    (void)take(heap, 2000);
    size_t cached = look(heap).cached_bytes;
    printf("pt     after a request of 2000 bytes: %zu bytes cached\n", cached);
    REQUIRE(cached == (size_t)7 * 32);
    close_heap(heap);
}

/* ---------------------------------------------------------------- the table */

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(void);
    } cases[] = {
        {"first", first_litter}, {"next", next_scatter}, {"best", best_slivers},
        {"worst", worst_large},  {"buddy", buddy_waste}, {"slab", slab_pinned},
        {"top", top_pins},       {"pt", pt_caches},
    };
    size_t done = 0;
    for (size_t i = 0; i < LU_COUNT_OF(cases); i++) {
        bool wanted = argc == 2 && (strcmp(argv[1], "all") == 0 || !strcmp(argv[1], cases[i].name));
        if (!wanted) continue;
        cases[i].run();
        done++;
    }
    if (done == 0) heap_fail("usage: classic_adversary CASE|all");
    return 0;
}
