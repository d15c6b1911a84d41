/*
 * property.c - any classic allocator against a shadow: what must hold for every one of them.
 *
 *     classic_property POLICY [--slow] [--operations N] [--seed N] [--emulated]
 *
 * random    Allocations, aligned and zeroed ones, frees, resizes and trims in random order, by
 *           four simulated threads of which one ends now and then. Every block is filled to its
 *           last usable byte with a pattern of its own that must be there when it is looked at
 *           again; it is aligned, large enough, and overlaps no other. The heap is sound (all
 *           invariants, and the statistics are those of the shadow) now and then, with --slow after
 *           every step. At the end all is freed, and the heap is sound and empty.
 * again     The same once more, in another heap beside it: the same places from its base on.
 * exhaust   A small area until nothing is left: NULL, nothing lost or damaged, and after all was
 *           freed as much fits again.
 * lifetime  Heaps made and destroyed many times leave nothing mapped. Not with --emulated: there
 *           the address space is the emulator's, and grows by its own tables.
 *
 * One thread. Prints nothing; what does not hold ends it with a line and status 1.
 */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heap.h"

enum { SLOTS = 2048, THREADS = 4 };

struct slot {
    unsigned char *payload; /* NULL: free */
    size_t asked, filled;
    uint64_t seed; /* of the pattern */
};

struct run {
    struct lu__classic *heap;
    struct random random;
    size_t slots; /* of them in use */
    struct slot slot[SLOTS];
    uint64_t places; /* a hash of all payloads, from the base on */
    uint64_t seeds;
    size_t live, asked; /* blocks and bytes in the slots */
};

static struct {
    const struct lu__policy *policy;
    size_t operations;
    uint64_t seed;
    bool slow, emulated;
} options = {.operations = 8000, .seed = 1};

/* ---------------------------------------------------------------- slots */

static uint64_t word_of(const struct slot *slot, size_t index) {
    return (slot->seed + index) * 0x9e3779b97f4a7c15u;
}

static void fill(struct slot *slot, size_t from) {
    for (size_t i = from / 8; i * 8 < slot->filled; i++) {
        uint64_t word = word_of(slot, i);
        memcpy(slot->payload + 8 * i, &word, LU_MIN(slot->filled - 8 * i, sizeof word));
    }
}

static void verify(const struct run *run, const struct slot *slot, size_t bytes) {
    for (size_t i = 0; i * 8 < bytes; i++) {
        uint64_t word = word_of(slot, i);
        if (memcmp(slot->payload + 8 * i, &word, LU_MIN(bytes - 8 * i, sizeof word)) == 0) continue;
        heap_fail("%s: a block of %zu bytes at %#zx was changed at %zu", run->heap->policy->name,
                  slot->asked, (size_t)slot->payload, 8 * i);
    }
}

/* The heap gave `payload` for `asked` bytes: check it, note it. */
static void enter(struct run *run, struct slot *slot, void *payload, size_t asked, size_t align) {
    const struct lu__policy *policy = run->heap->policy;
    size_t usable = lu__classic_usable_size(run->heap, payload);
    uintptr_t start = (uintptr_t)payload;
    if (usable < asked || usable == 0) {
        heap_fail("%s: %zu bytes usable of %zu", policy->name, usable, asked);
    }
    if (start % align != 0 || start % policy->align != 0) {
        heap_fail("%s: %zu bytes at %#zx, aligned to %zu", policy->name, asked, start, align);
    }
    for (size_t i = 0; i < run->slots; i++) {
        const struct slot *other = &run->slot[i];
        if (other->payload == NULL || other == slot) continue;
        uintptr_t others = (uintptr_t)other->payload;
        if (start < others + other->filled && others < start + usable) {
            heap_fail("%s: %zu bytes at %#zx overlap %zu at %#zx", policy->name, usable, start,
                      other->filled, others);
        }
    }
    run->places = (run->places ^ (start - run->heap->area.base)) * 0x100000001b3u;
    *slot = (struct slot){payload, asked, usable, (run->seeds += 1000003)};
    fill(slot, 0);
    run->live++;
    run->asked += asked;
}

static void leave(struct run *run, struct slot *slot) {
    verify(run, slot, slot->filled);
    run->live--;
    run->asked -= slot->asked;
    slot->payload = NULL;
}

static void free_slot(struct run *run, struct slot *slot) {
    void *payload = slot->payload;
    leave(run, slot);
    lu__classic_free(run->heap, payload);
}

static void free_all(struct run *run) {
    for (size_t i = 0; i < run->slots; i++) {
        if (run->slot[i].payload != NULL) free_slot(run, &run->slot[i]);
    }
}

/* ---------------------------------------------------------------- the heap */

/* Sound, and its statistics are what the shadow knows. */
static void check(struct run *run) {
    struct lu__classic_stats stats;
    const char *name = run->heap->policy->name;
    heap_check(run->heap);
    lu__classic_stats(run->heap, &stats);
    if (stats.used_blocks != run->live) {
        heap_fail("%s: %zu used blocks of %zu", name, stats.used_blocks, run->live);
    }
    if (stats.asked_bytes != run->asked) {
        heap_fail("%s: %zu bytes asked of %zu", name, stats.asked_bytes, run->asked);
    }
    if (stats.used_bytes + stats.free_bytes + stats.meta_bytes != stats.held) {
        heap_fail("%s: %zu bytes held, but %zu used, %zu free, %zu of its own", name, stats.held,
                  stats.used_bytes, stats.free_bytes, stats.meta_bytes);
    }
    if (stats.held > stats.peak_held || stats.internal < 0 || stats.internal > 1 ||
        stats.external < 0 || stats.external > 1 ||
        stats.counters.allocs - stats.counters.frees != run->live) {
        heap_fail("%s: impossible statistics", name);
    }
}

static void create(struct run *run, size_t limit, size_t slots) {
    struct lu__classic_config config = {.tracked = true, .limit_bytes = limit};
    *run = (struct run){.random = {options.seed}, .slots = slots};
    run->heap = heap_create(options.policy, &config, NULL);
}

static void destroy(struct run *run) {
    free_all(run);
    check(run);
    lu__classic_trim(run->heap);
    check(run);
    lu__classic_destroy(run->heap);
}

/* ---------------------------------------------------------------- random operations */

/* Mostly small, evenly over the powers of two up to 8 KiB; some up to 400 KiB. */
static size_t any_size(struct random *random) {
    if (random_below(random, 100) == 0) return random_below(random, 400 * LU_KIB);
    return random_below(random, (size_t)2 << random_below(random, 13));
}

static void alloc_step(struct run *run, struct slot *slot) {
    struct random *random = &run->random;
    size_t bytes = any_size(random), align = 1, kind = random_below(random, 8);
    unsigned char *payload;
    if (kind == 0) {
        align = (size_t)1 << random_below(random, 15);
        payload = lu__classic_alloc_aligned(run->heap, align, bytes);
    } else if (kind == 1) {
        payload = lu__classic_alloc_zeroed(run->heap, bytes);
        for (size_t i = 0; payload != NULL && i < bytes; i++) {
            if (payload[i] != 0) heap_fail("%s: not zero", run->heap->policy->name);
        }
    } else {
        payload = lu__classic_alloc(run->heap, bytes);
    }
    if (payload == NULL) heap_fail("%s: no %zu bytes", run->heap->policy->name, bytes);
    enter(run, slot, payload, bytes, align);
}

static void resize_step(struct run *run, struct slot *slot) {
    size_t bytes = any_size(&run->random);
    if (random_below(&run->random, 2) == 0) {
        bytes = slot->asked + random_below(&run->random, 200);
        bytes -= LU_MIN(bytes, (size_t)100);
    }
    struct slot old = *slot;
    leave(run, slot);
    unsigned char *payload = lu__classic_resize(run->heap, old.payload, bytes);
    if (payload == NULL) heap_fail("%s: no %zu bytes", run->heap->policy->name, bytes);
    old.payload = payload;
    verify(run, &old, LU_MIN(old.filled, bytes));
    enter(run, slot, payload, bytes, 1);
}

static void step(struct run *run) {
    struct random *random = &run->random;
    struct slot *slot = &run->slot[random_below(random, run->slots)];
    lu__classic_set_thread(run->heap, (unsigned)random_below(random, THREADS));
    if (slot->payload == NULL) {
        alloc_step(run, slot);
    } else if (random_below(random, 3) == 0) {
        resize_step(run, slot);
    } else {
        free_slot(run, slot);
    }
    if (random_below(random, 500) == 0) lu__classic_thread_end(run->heap);
    if (random_below(random, 1000) == 0) lu__classic_trim(run->heap);
}

/* The hash of the places. */
static uint64_t random_operations(struct run *run, size_t slots) {
    size_t between = options.slow ? 1 : options.operations / 10 + 1;
    create(run, 0, slots);
    for (size_t i = 0; i < options.operations; i++) {
        step(run);
        if (i % between == 0) check(run);
        /* The blocks come in waves: all but a few go, and the holes are filled again. */
        if (i % (options.operations / 4 + 1) == options.operations / 5) {
            for (size_t k = 0; k < slots; k++) {
                if (k % 16 != 0 && run->slot[k].payload != NULL) free_slot(run, &run->slot[k]);
            }
        }
    }
    destroy(run);
    return run->places;
}

/* ---------------------------------------------------------------- no memory */

static size_t fill_up(struct run *run) {
    for (size_t i = 0; i < run->slots; i++) {
        size_t bytes = 1 + random_below(&run->random, i % 2 == 0 ? 200 : 20000);
        lu__classic_set_thread(run->heap, (unsigned)random_below(&run->random, THREADS));
        void *payload = lu__classic_alloc(run->heap, bytes);
        if (payload == NULL) return run->asked;
        enter(run, &run->slot[i], payload, bytes, 1);
        if (options.slow) check(run);
    }
    heap_fail("%s: no end of memory", run->heap->policy->name);
}

static void exhaust(struct run *run) {
    enum { LIMIT = 4 << 20 };
    struct lu__classic_stats stats;
    create(run, LIMIT, SLOTS);
    const char *name = run->heap->policy->name;
    size_t full = fill_up(run);
    check(run);
    if (full < LIMIT / 4) heap_fail("%s: full with %zu bytes", name, full);
    lu__classic_stats(run->heap, &stats);
    uint64_t failures = stats.counters.failures;
    if (lu__classic_resize(run->heap, run->slot[1].payload, 2 * LIMIT) != NULL ||
        lu__classic_alloc_zeroed(run->heap, LIMIT) != NULL ||
        lu__classic_alloc_aligned(run->heap, LIMIT, 1) != NULL ||
        lu__classic_alloc(run->heap, SIZE_MAX) != NULL ||
        lu__classic_alloc(run->heap, PTRDIFF_MAX - 65 * LU_KIB) != NULL ||
        lu__classic_alloc_aligned(run->heap, (size_t)1 << 60, (size_t)1 << 61) != NULL) {
        heap_fail("%s: more than all memory", name);
    }
    check(run);
    lu__classic_stats(run->heap, &stats);
    if (stats.counters.failures != failures + 6) heap_fail("%s: failures not counted", name);
    free_all(run); /* all patterns are there */
    check(run);
    lu__classic_trim(run->heap);
    size_t again = fill_up(run);
    if (again < full - full / 4) {
        heap_fail("%s: %zu bytes fit, and later only %zu", name, full, again);
    }
    destroy(run);
}

/* ---------------------------------------------------------------- nothing stays mapped */

/* Bytes of address space that the process has. */
static size_t address_space(void) {
    size_t pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    if (statm == NULL || fscanf(statm, "%zu", &pages) != 1) heap_fail("no /proc/self/statm");
    (void)fclose(statm);
    return pages * LU_OS_PAGE;
}

static void lifetime(struct run *run) {
    enum { TIMES = 100, WARM = 5 };
    size_t before = 0;
    for (int i = 0; i < TIMES; i++) {
        if (i == WARM) before = address_space();
        create(run, 64 * LU_MIB, 64);
        for (int k = 0; k < 20; k++) alloc_step(run, &run->slot[k]);
        if (lu__classic_alloc(run->heap, LU_MIB) == NULL) heap_fail("no 1 MiB"); /* mapped? */
        lu__classic_destroy(run->heap);
    }
    size_t after = address_space();
    if (after > before + (TIMES - WARM) * LU_OS_PAGE_LEAST / 2) {
        heap_fail("%s: heaps that are gone left %zu bytes mapped", options.policy->name,
                  after - before);
    }
}

/* ---------------------------------------------------------------- the command line */

static error_t parse(int key, char *text, struct argp_state *state) {
    switch (key) {
    case 's':
        options.slow = true;
        return 0;
    case 'e':
        options.emulated = true;
        return 0;
    case 'n':
        options.operations = strtoul(text, NULL, 10);
        return 0;
    case 'r':
        options.seed = strtoul(text, NULL, 10);
        return 0;
    case ARGP_KEY_ARG:
        options.policy = lu__policy_find(text);
        if (options.policy == NULL) argp_error(state, "no policy %s", text);
        return 0;
    case ARGP_KEY_END:
        if (options.policy == NULL) argp_error(state, "which policy?");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv) {
    static const struct argp_option known[] = {
        {"slow", 's', NULL, 0, "check everything after every step", 0},
        {"emulated", 'e', NULL, 0, "do not look at the address space", 0},
        {"operations", 'n', "N", 0, "how many random ones", 0},
        {"seed", 'r', "N", 0, "of the random numbers", 0},
        {0},
    };
    static const struct argp argp = {known, parse, "POLICY", NULL, NULL, NULL, NULL};
    static struct run run;
    argp_parse(&argp, argc, argv, 0, NULL, NULL);

    size_t slots = options.slow ? 128 : SLOTS;
    uint64_t places = random_operations(&run, slots);
    struct lu__classic *beside = heap_create(options.policy, NULL, NULL);
    if (random_operations(&run, slots) != places) {
        heap_fail("%s: the same calls gave other places", options.policy->name);
    }
    lu__classic_destroy(beside);
    exhaust(&run);
    if (!options.emulated) lifetime(&run);
    return 0;
}
