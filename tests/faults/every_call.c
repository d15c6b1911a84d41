/*
 * every_call.c - each of the first system calls of a process refused: alone, and with all after it.
 *
 *     every_call CALLS STRIDE    the whole: the phases below, and the report at the end; of the
 *                                calls every STRIDE-th, and the first of each place in the library
 *
 * A process does random operations. In front of every system call by which the library changes
 * memory the process forks twice, in the middle of the library: in one child that call fails, in
 * the other it and all that follow, while the parent goes on unharmed and comes to the next call:
 *
 *     parent   call 1 -- call 2 -- call 3 -- ...
 *                |         |         |
 *              2 children, each: operations while memory is refused; all freed; malloc(40) out of
 *              what was freed; memory is given again: nothing may fail, and no block or run is lost
 *
 * So the run costs one child more per call, not one run from the start. Some calls are interrupted,
 * as by a signal handler, to allocate in their middle.
 *
 * This is done with the defaults and with hardening. Then the program says for every place in the
 * library that asks the kernel for something how often it was refused; one that never was is a
 * failure.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "check.h"
#include "check_header.h"
#include "closed_runs.h"
#include "lucid/lucid.h"
#include "os_fault.h"
#include "refuse_unmaps.h"
#include "span/run_parts.h"

enum {
    SLOTS = 90,
    STEPS_REFUSED = 30,
    STEPS_AFTER = 12,
    CHILD_SECONDS = 30,
    ALL_SECONDS = 280,
    SMALL_WHOLE = 4096, /* blocks up to here are filled, larger ones in places */
    PLACES = 5
};

struct block {
    unsigned char *at;
    size_t size;
    uint64_t seed;
};

static struct block blocks[SLOTS];
static lu_heap_t *heap;
static uint64_t random_state, seeds;

static bool may_fail;             /* memory is refused, or was in the current step */
static bool is_child, child_from; /* all further calls fail                       */
static size_t next_call, stride, calls_most;
static bool has_quarantine; /* what was freed is not free yet */

/* ------------------------------------------------------------------ blocks ------------------- */

static size_t below(size_t bound) {
    return (size_t)(check_random(&random_state) % bound);
}

static uint64_t *place(const struct block *block, size_t i) {
    return (uint64_t *)(void *)(block->at + (block->size / 8 - 1) * i / (PLACES - 1) * 8);
}

static void fill(struct block *block) {
    block->seed = ++seeds;
    if (block->size <= SMALL_WHOLE) {
        check_fill(block->at, block->size, block->seed);
        return;
    }
    for (size_t i = 0; i < PLACES; i++) *place(block, i) = block->seed * 16 + i;
}

static void verify(const struct block *block) {
    if (block->size <= SMALL_WHOLE) {
        CHECK_FILLED(block->at, block->size, block->seed);
        return;
    }
    for (size_t i = 0; i < PLACES; i++) {
        CHECK_THAT(*place(block, i) == block->seed * 16 + i, "block %p of %zu bytes changed",
                   (void *)block->at, block->size);
    }
}

static void verify_zero(const struct block *block) {
    if (block->size <= SMALL_WHOLE) {
        CHECK_ZERO(block->at, block->size);
        return;
    }
    for (size_t i = 0; i < PLACES; i++) CHECK_EQ(*place(block, i), 0);
}

/* A result that may be NULL only while memory is refused; true if there is a block. */
static bool given(const void *result, size_t size) {
    if (result != NULL) {
        CHECK_EQ(errno, 0);
        return true;
    }
    CHECK_THAT(may_fail, "no %zu bytes, although nothing is refused", size);
    CHECK_EQ(errno, ENOMEM);
    return false;
}

static size_t some_size(void) {
    switch (below(20)) {
    case 0:
    case 1:
        return ((size_t)32 << 20) + below(200000); /* a mapping of its own */
    case 2:
    case 3:
        return 600000 + below(3000000); /* moved by mremap when it grows */
    case 4:
    case 5:
    case 6:
        return below(200000);
    case 7:
        return 0;
    default:
        return below(1500);
    }
}

static void allocate(struct block *block) {
    size_t size = some_size(), align = 1;
    void *at;
    switch (below(12)) {
    case 0:
    case 1:
    case 2:
    case 3:
        at = lu_calloc(1, size);
        break;
    case 4:
        align = (size_t)8 << below(below(6) == 0 ? 24 : 14);
        at = lu_memalign(align, size);
        break;
    case 5:
        at = heap != NULL ? lu_heap_calloc(heap, 1, size) : lu_calloc(1, size);
        break;
    default:
        at = lu_malloc(size);
        align = 0;
    }
    if (!given(at, size)) return;
    *block = (struct block){at, size, 0};
    CHECK_ALIGNED(at, align > 8 ? align : 8);
    if (align == 1) verify_zero(block);
    fill(block);
}

static void resize(struct block *block) {
    size_t size = below(2) == 0 ? block->size * 2 + 1 : some_size() + 1;
    if (size > (size_t)70 << 20) size = some_size() + 1;
    verify(block);
    uint64_t first = 0, now = 0;
    memcpy(&first, block->at, block->size < 8 ? block->size : 8);
    void *at = lu_realloc(block->at, size);
    if (!given(at, size)) return;
    memcpy(&now, at, block->size < 8 ? block->size : 8);
    if (size >= 8) CHECK_THAT(now == first, "realloc lost the contents");
    if (size >= block->size) {
        block->at = at;
        verify(block);
    }
    *block = (struct block){at, size, 0};
    fill(block);
}

static void end_block(struct block *block) {
    verify(block);
    errno = 4711;
    lu_free(block->at);
    CHECK_EQ(errno, 4711);
    block->at = NULL;
}

/* A heap of its own lives for a while; its blocks are plain ones here, freed by lu_free. */
static void renew_heap(void) {
    if (heap == NULL) {
        heap = lu_heap_create(LU_HEAP_SHARED);
        (void)given(heap, 0);
    }
}

static void step(void) {
    struct block *block = &blocks[below(SLOTS)];
    size_t draw = below(120);
    errno = 0;
    if (draw == 0) {
        (void)lu_purge();
    } else if (draw == 1) {
        renew_heap();
    } else if (block->at == NULL) {
        allocate(block);
    } else if (draw < 40) {
        resize(block);
    } else {
        end_block(block);
    }
}

static void free_all(void) {
    for (size_t i = 0; i < SLOTS; i++) {
        if (blocks[i].at != NULL) end_block(&blocks[i]);
    }
}

/* ------------------------------------------------------------------ the children ------------- */

/* True if something was ever handed out from a region, so that there is something to be freed. */
static bool has_runs(void) {
    size_t bytes = 0;
    for (uint32_t i = 0; i < lu__region_count; i++) {
        bytes += (size_t)lu__regions[i].top << LU_SLICE_SHIFT;
    }
    return bytes > lu__span_figures.meta;
}

/* Everything is freed: nothing is live, and every run is free again but our own. */
static void check_nothing_lost(void) {
    static lu_stats_t stats;
    lu_heap_destroy(heap);
    heap = NULL;
    (void)lu_purge();
    if (has_quarantine) return; /* what is in it counts as live */
    lu_stats_get(&stats);
    CHECK_EQ(stats.live_blocks, 0);
    CHECK_EQ(stats.huge_bytes, 0);
    CHECK_EQ(lu__span_figures.used, lu__span_figures.meta);
}

/* Every free run can be found again. Takes them all out: nothing can be allocated afterwards. */
static void check_bins(void) {
    size_t marked = 0, binned = 0;
    for (uint32_t i = 0; i < lu__region_count; i++) {
        const struct region *region = &lu__regions[i];
        for (size_t slice = 0; slice < region->top;) {
            const struct span *run = lu__region_desc(region, slice);
            if (run->kind == LU_KIND_FREE) marked += run->slices;
            slice += run->slices;
        }
    }
    for (struct span *run; (run = lu__bins_find(1, 1)) != NULL;) {
        lu__bins_remove(run);
        binned += run->slices;
    }
    CHECK_EQ(binned, marked);
}

static __attribute__((noreturn)) void be_child(void) {
    bool had_runs = has_runs();
    if (child_from) {
        for (int i = 0; i < STEPS_REFUSED; i++) step();
    } else {
        os_fault_none();
    }
    free_all();
    void *block = lu_malloc(40);
    CHECK_THAT(block != NULL || !had_runs || has_quarantine,
               "all is free, and there are no 40 bytes");
    lu_free(block);
    os_fault_none();
    may_fail = false;
    for (int i = 0; i < STEPS_AFTER; i++) step();
    errno = 0;
    block = lu_malloc((size_t)50 << 20);
    (void)given(block, (size_t)50 << 20);
    lu_free(block);
    free_all();
    check_nothing_lost();
    check_bins();
    _exit(0);
}

/* In the middle of the library, as a signal handler: a size that no fast path serves. */
static void allocate_nested(size_t order) {
    int saved = errno;
    struct block block = {NULL, 66000 + order % 20000, 0};
    block.at = lu_calloc(1, block.size);
    if (block.at != NULL) {
        verify_zero(&block);
        fill(&block);
        verify(&block);
        lu_free(block.at);
    }
    CHECK(!lu_owns(&block)); /* looks into the table of mappings, whoever holds its lock */
    errno = saved;
}

static void wait_for(pid_t child, size_t order, bool from) {
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_THAT(status == 0, "with call %zu refused%s: status 0x%x", order,
               from ? " and all after it" : "", (unsigned)status);
}

/* Some calls, and the first at each place, are interrupted; the second time in the call that makes
 * the memory for the first. */
static void interrupt(size_t order, enum os_fault_call call, bool first) {
    static int depth;
    if (depth == 0 ? first || order % 31 == 3
                   : depth == 1 && call == OS_FAULT_MAP && order % 2 == 0) {
        depth++;
        allocate_nested(order);
        depth--;
    }
}

static void before_call(size_t order, enum os_fault_call call, bool first) {
    if (!is_child && (order >= next_call || first) && order <= calls_most) {
        if (order >= next_call) next_call = order + stride;
        for (int from = 0; from < 2; from++) {
            pid_t child = _Fork(); /* no handlers: the child goes on where it is */
            CHECK(child >= 0);
            if (child == 0) {
                alarm(CHILD_SECONDS);
                is_child = may_fail = true;
                child_from = from != 0;
                if (child_from) {
                    os_fault_from(1);
                } else {
                    os_fault_once(order);
                }
                return;
            }
            wait_for(child, order, from != 0);
        }
    }
    interrupt(order, call, first);
}

/* ------------------------------------------------------------------ phases ------------------- */

static void refuse_each_call(void) {
    /* A huge page for each place that is written would make a child cost milliseconds. */
    CHECK_EQ(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
    random_state = 1;
    next_call = 1;
    os_fault_none();
    os_fault_hook(before_call);
    size_t steps = 0;
    while (os_fault_seen() < calls_most) {
        step();
        if (is_child) be_child();
        CHECK_THAT(++steps < 100 * calls_most, "too few system calls");
    }
    os_fault_hook(NULL);
    free_all();
    check_nothing_lost();
    const char *options = getenv("LUCID_OPTIONS");
    check_passed("calls 1 to %zu, every %zu.: refused alone, and from there on%s%s", calls_most,
                 stride, options != NULL ? ", with " : "", options != NULL ? options : "");
}

static bool go_on(const lu_violation_t *violation, void *arg) {
    (void)violation, (void)arg;
    return true;
}

/* A sampled block is read when it is free. The program's handler says to go on, but the page cannot
 * be made readable: then the fault stands. */
static void use_sampled_block(void) {
    enum { COUNT = 400 };
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        static void *sampled[COUNT];
        lu_set_violation_handler(go_on, NULL);
        for (size_t i = 0; i < COUNT; i++) sampled[i] = lu_malloc(24);
        for (size_t i = 0; i < COUNT; i++) lu_free(check_hidden(sampled[i]));
        os_fault_only(1u << OS_FAULT_COMMIT);
        os_fault_from(1);
        for (size_t i = 0; i < COUNT; i++) (void)*(volatile unsigned char *)sampled[i];
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_THAT(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV,
               "a freed sampled block could be read: status 0x%x", (unsigned)status);
}

/* More small blocks than any quarantine holds: when all are freed, spans have ended. */
static struct block burst[6000];

static lu_heap_t *doomed; /* ends with its blocks while memory is refused */

static void make_burst(void) {
    errno = 0;
    doomed = lu_heap_create(LU_HEAP_SHARED);
    (void)given(doomed, 0);
    for (size_t i = 0; i < 50; i++) (void)given(lu_heap_malloc(doomed, i * 100), i * 100);
    for (size_t i = 0; i < 80; i++) (void)given(lu_heap_malloc(doomed, 70000), 70000);
    for (size_t i = 0; i < CHECK_COUNT_OF(burst); i++) {
        burst[i].size = i < CHECK_COUNT_OF(burst) / 2 ? 500 + i % 600 : 3000;
        errno = 0;
        burst[i].at = lu_malloc(burst[i].size);
        if (given(burst[i].at, burst[i].size)) fill(&burst[i]);
    }
}

static bool visit(void *block, size_t usable_bytes, void *count) {
    (void)block, (void)usable_bytes;
    ++*(size_t *)count;
    return true;
}

static void end_burst(void) {
    size_t count = 0;
    errno = 0;
    bool walked = lu_heap_walk(doomed, visit, &count); /* it has more runs than need no mapping */
    CHECK_THAT(walked ? count == 130 : count == 0 && errno == ENOMEM, "%zu blocks, errno %d", count,
               errno);
    destroy_at_limit(doomed);
    for (size_t i = 0; i < CHECK_COUNT_OF(burst); i++) end_block(&burst[i]);
}

/* Each kind of call refused for a while, and only that. */
static void refuse_each_kind(void) {
    enum { MAPPINGS = 600 };
    static struct block mappings[MAPPINGS];
    refuse_in_children();
    os_fault_hook(interrupt);
    for (unsigned kind = 0; kind < OS_FAULT_CALLS; kind++) {
        /* So many that their table grows; few where they are cleared. */
        size_t count = has_quarantine ? 5 : kind == OS_FAULT_UNMAP ? MAPPINGS : MAPPINGS / 6;
        make_burst();
        leave_closed_runs();
        may_fail = true;
        os_fault_only(1u << kind);
        os_fault_from(1);
        use_closed_runs();
        for (size_t i = 0; i < MAPPINGS / 4 || i < count; i++) {
            step();
            if (i >= count) continue;
            mappings[i].size = ((size_t)32 << 20) + i;
            errno = 0;
            mappings[i].at = lu_malloc(mappings[i].size);
            if (given(mappings[i].at, mappings[i].size)) fill(&mappings[i]);
        }
        end_burst();
        for (size_t i = 0; i < count; i++) {
            if (mappings[i].at != NULL) end_block(&mappings[i]);
        }
        free_all();
        os_fault_none();
        may_fail = false;
        for (int i = 0; i < STEPS_AFTER; i++) step();
        free_all();
        check_nothing_lost();
    }
    check_passed("each kind of call: refused for a while, and only that");
}

/* Every step of moving a block into a mapping refused, and of moving it back; it stays whole. */
static void refuse_moves(void) {
    const unsigned remap = 1u << OS_FAULT_REMAP, purge = 1u << OS_FAULT_PURGE,
                   unmap = 1u << OS_FAULT_UNMAP,
                   kinds[] = {1u << OS_FAULT_MOVE_OUT, remap, remap | purge, remap | purge | unmap};
    for (size_t i = 0; i < CHECK_COUNT_OF(kinds); i++) {
        for (size_t first = 1; first <= 6; first++) {
            struct block pair[2]; /* neither can grow where it is */
            for (size_t k = 0; k < 2; k++) {
                pair[k] = (struct block){lu_malloc(5000000), 5000000, 0};
                CHECK(pair[k].at != NULL);
                fill(&pair[k]);
            }
            may_fail = true;
            os_fault_only(kinds[i]);
            os_fault_from(first);
            unsigned char *at = lu_realloc(pair[0].at, 12000000);
            os_fault_none();
            may_fail = false;
            CHECK_THAT(at != NULL, "a move was refused, and nothing was copied");
            pair[0].at = at;
            for (size_t k = 0; k < 2; k++) end_block(&pair[k]);
        }
    }
    free_all();
    check_nothing_lost();
    check_passed("every step of a move refused: contents copied");
}

/* Blocks of about `size` until there is no memory; how many bytes. */
static size_t fill_up(size_t size) {
    static struct block many[20000];
    size_t bytes = 0, count = 0;
    may_fail = true;
    for (; count < CHECK_COUNT_OF(many); count++) {
        many[count].size = size + below(size / 8);
        errno = 0;
        many[count].at = lu_malloc(many[count].size);
        if (!given(many[count].at, size)) break;
        fill(&many[count]);
        bytes += many[count].size;
    }
    CHECK_THAT(count < CHECK_COUNT_OF(many), "%zu bytes: the budget does not hold", bytes);
    for (size_t i = 0; i < count; i++) end_block(&many[i]);
    may_fail = false;
    return bytes;
}

/* Overcommit mode 2 with 96 MiB: about as much can be had, and again when it was freed, in every
 * size; and no large reservation. */
static void refuse_overcommit(void) {
    const size_t budget = 96 * CHECK_MIB;
    os_fault_budget(budget, 64 * CHECK_MIB);
    static const size_t sizes[] = {5000, 60000, 900000, 5000, (size_t)33 << 20, 5000};
    for (size_t i = 0; i < CHECK_COUNT_OF(sizes); i++) {
        size_t got = fill_up(sizes[i]);
        CHECK_THAT(got <= budget, "%zu MiB of %zu", got / CHECK_MIB, budget / CHECK_MIB);
        size_t least = sizes[i] > 10 * CHECK_MIB ? 0 : budget * 7 / 10; /* of 33 MiB two fit */
        CHECK_THAT(got >= least, "only %zu KiB in blocks of %zu", got / 1024, sizes[i]);
        check_passed("  overcommit 2: %zu of %zu KiB in blocks of %zu", got / 1024, budget / 1024,
                     sizes[i]);
    }
    check_nothing_lost();
    check_passed("strict overcommit");
}

static void run_phase(const char *phase, const char *options, size_t calls, size_t every) {
    char calls_text[24], every_text[24], phase_text[24];
    snprintf(calls_text, sizeof calls_text, "%zu", calls);
    snprintf(every_text, sizeof every_text, "%zu", every);
    snprintf(phase_text, sizeof phase_text, "%s", phase);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char name[] = "every_call", *arguments[] = {name, calls_text, every_text, phase_text, NULL};
        if (options != NULL) {
            setenv("LUCID_OPTIONS", options, 1);
            setenv("ASAN_OPTIONS", "handle_segv=0", 1); /* the fault is ours to see */
            setenv("TSAN_OPTIONS", "handle_segv=0", 1);
        } else {
            unsetenv("LUCID_OPTIONS");
        }
        execv("/proc/self/exe", arguments);
        check_failed(__FILE__, __LINE__, "execv: errno %d", errno);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_THAT(status == 0, "%s%s%s: status 0x%x", phase, options != NULL ? " with " : "",
               options != NULL ? options : "", (unsigned)status);
}

static void refuse_moves_and_unmaps(void) {
    refuse_moves();
    refuse_unmaps();
    check_nothing_lost();
}

static const struct {
    const char *name;
    void (*run)(void);
} phases[] = {{"calls", refuse_each_call},
              {"sampled", use_sampled_block},
              {"kinds", refuse_each_kind},
              {"moves", refuse_moves_and_unmaps},
              {"overcommit", refuse_overcommit}};

int main(int argc, char **argv) {
    check_begin(argc, argv);
    CHECK_THAT(argc >= 3, "usage: every_call CALLS STRIDE");
    os_fault_share();
    has_quarantine = getenv("LUCID_OPTIONS") != NULL;
    calls_most = strtoul(argv[1], NULL, 10);
    stride = strtoul(argv[2], NULL, 10);
    CHECK(calls_most > 0 && stride > 0);
    alarm(ALL_SECONDS);
    for (size_t i = 0; argc > 3 && i < CHECK_COUNT_OF(phases); i++) {
        if (strcmp(argv[3], phases[i].name) != 0) continue;
        phases[i].run();
        return 0;
    }
    check_header();
    run_phase("calls", NULL, calls_most, stride);
    run_phase("calls", "harden:2,guard_sample:40", calls_most / 4, stride);
    run_phase("kinds", NULL, 1, 1);
    run_phase("kinds", "harden:2,guard_sample:40", 1, 1);
    run_phase("moves", NULL, 1, 1);
    run_phase("sampled", "guard_sample:40", 1, 1);
    run_phase("overcommit", NULL, 1, 1);
    size_t never = os_fault_report();
    fflush(stdout);
    CHECK_THAT(never == 0, "%zu places that ask the kernel for memory were never refused", never);
    check_passed("every place that asks the kernel for memory was refused");
    return 0;
}
