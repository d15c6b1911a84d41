/* test_classic.c - what all classic heaps have in common, with a policy that does as it is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "heap.h"

/* ---------------------------------------------------------------- a policy that is told */

/* It cuts blocks of 256 bytes without header from the break, and never gives one twice. */
static struct {
    size_t asked, align;      /* of the last call                         */
    unsigned allocs, frees;   /* calls                                    */
    bool no_memory, no_start; /* alloc, init: refuse                      */
    bool in_place;            /* resize: says yes                         */
    bool zero;                /* is_zero: says yes                        */
    struct lu__block blocks[8];
    size_t block_count; /* of the walk                                     */
    bool unsound;       /* validate: says no                               */
} told;

#define BLOCK 256

static bool told_init(struct lu__classic *self) {
    return self->area.base != 0 && !told.no_start;
}

static void *told_alloc(struct lu__classic *self, size_t bytes) {
    told.allocs++;
    told.asked = bytes;
    return told.no_memory ? NULL : lu__area_sbrk(&self->area, BLOCK);
}

static void *told_alloc_aligned(struct lu__classic *self, size_t align, size_t bytes) {
    told.align = align;
    return told_alloc(self, bytes);
}

static void told_free(struct lu__classic *self, void *payload) {
    (void)self;
    (void)payload;
    told.frees++;
}

static void *told_resize(struct lu__classic *self, void *payload, size_t bytes) {
    (void)self;
    told.asked = bytes;
    return told.in_place ? payload : NULL;
}

static size_t told_usable(const struct lu__classic *self, const void *payload) {
    return (uintptr_t)payload - self->area.base < self->area.broken ? BLOCK : 0;
}

static bool told_is_zero(const struct lu__classic *self, const void *payload, size_t bytes) {
    (void)self;
    (void)payload;
    (void)bytes;
    return told.zero;
}

static void told_walk(struct lu__classic *self, lu__block_visit *visit, void *arg) {
    (void)self;
    for (size_t i = 0; i < told.block_count; i++) {
        if (!visit(arg, &told.blocks[i])) return;
    }
}

static bool told_validate(struct lu__classic *self, struct lu__classic_fault *fault) {
    if (told.unsound) *fault = (struct lu__classic_fault){"as told", self->area.base};
    return !told.unsound;
}

static const struct lu__policy policy = {
    .name = "told",
    .state_bytes = sizeof(struct lu__classic),
    .align = 32,
    .init = told_init,
    .alloc = told_alloc,
    .alloc_aligned = told_alloc_aligned,
    .free = told_free,
    .resize = told_resize,
    .usable_size = told_usable,
    .is_zero = told_is_zero,
    .walk = told_walk,
    .validate = told_validate,
};

static struct misuse misuse;

static struct lu__classic *make(void) {
    static const struct lu__classic_config config = {.tracked = true, .limit_bytes = LU_MIB};
    memset(&told, 0, sizeof told);
    misuse = (struct misuse){0};
    return heap_create(&policy, &config, &misuse);
}

/* ---------------------------------------------------------------- calls */

static void sizes_are_checked(void **state) {
    (void)state;
    struct lu__classic *heap = make();
    assert_non_null(lu__classic_alloc(heap, 0));
    assert_int_equal(told.asked, 1);
    assert_int_equal(lu__classic_usable_size(heap, NULL), 0);
    unsigned allocs = told.allocs;
    assert_null(lu__classic_alloc(heap, SIZE_MAX));
    assert_null(lu__classic_alloc_zeroed(heap, PTRDIFF_MAX));
    assert_null(lu__classic_alloc_aligned(heap, 64, SIZE_MAX));
    assert_null(lu__classic_alloc_aligned(heap, (size_t)1 << 63, 1));
    assert_int_equal(told.allocs, allocs);
    void *block = lu__classic_alloc(heap, 10);
    assert_null(lu__classic_resize(heap, block, SIZE_MAX));
    assert_int_equal(heap->counters.failures, 5);
    assert_int_equal(heap->counters.allocs, 2);

    assert_non_null(lu__classic_alloc_aligned(heap, 32, 0)); /* as every block is */
    assert_int_equal(told.align, 0);
    assert_non_null(lu__classic_alloc_aligned(heap, 64, 0));
    assert_int_equal(told.align, 64);
    assert_int_equal(told.asked, 1);
    lu__classic_free(heap, NULL);
    assert_int_equal(told.frees, 0);
    lu__classic_destroy(heap);
}

static void zero_where_it_is_not_known(void **state) {
    (void)state;
    struct lu__classic *heap = make();
    assert_non_null(lu__area_sbrk(&heap->area, BLOCK)); /* keeps the page */
    char *block = lu__area_sbrk(&heap->area, BLOCK);
    memset(block, 1, BLOCK);
    assert_non_null(lu__area_sbrk(&heap->area, -BLOCK));
    assert_ptr_equal(lu__classic_alloc_zeroed(heap, 100), block);
    assert_int_equal(block[99], 0);
    assert_int_equal(block[100], 1);
    assert_non_null(lu__area_sbrk(&heap->area, -BLOCK));
    told.zero = true;
    block[0] = 1;
    assert_ptr_equal(lu__classic_alloc_zeroed(heap, 100), block);
    assert_int_equal(block[0], 1);
    lu__classic_destroy(heap);
}

static void resize_moves_what_cannot_stay(void **state) {
    (void)state;
    struct lu__classic *heap = make();
    char *a = lu__classic_resize(heap, NULL, 5);
    assert_non_null(a);
    assert_int_equal(heap->counters.resizes, 0);
    memset(a, 3, BLOCK);
    told.in_place = true;
    assert_ptr_equal(lu__classic_resize(heap, a, 0), a);
    assert_int_equal(told.asked, 1);
    told.in_place = false;
    told.no_memory = true;
    assert_null(lu__classic_resize(heap, a, 300));
    assert_int_equal(told.frees, 0);
    told.no_memory = false;
    char *b = lu__classic_resize(heap, a, 200);
    assert_ptr_not_equal(a, b);
    assert_int_equal(told.frees, 1);
    assert_int_equal(b[199], 3);
    assert_int_equal(b[200], 0); /* no more than was wanted is copied */
    assert_int_equal(heap->counters.resizes, 2);

    assert_null(lu__classic_resize(heap, &heap, 10));
    assert_int_equal(misuse.count, 1);
    assert_ptr_equal(misuse.block, &heap);
    lu__classic_destroy(heap);
}

static void a_heap_that_cannot_start(void **state) {
    (void)state;
    struct lu__classic_config config = {.tracked = true};
    memset(&told, 0, sizeof told);
    told.no_start = true;
    assert_null(lu__classic_create(&policy, &config));
    config.limit_bytes = (size_t)1 << 60;
    told.no_start = false;
    assert_null(lu__classic_create(&policy, &config));
}

/* ---------------------------------------------------------------- walks */

static void describe(struct lu__classic *heap, size_t i, size_t offset, size_t bytes,
                     enum lu__block_state block_state) {
    told.blocks[i] = (struct lu__block){
        .start = heap->area.base + offset, .bytes = bytes, .state = block_state};
    if (block_state == LU_BLOCK_USED) told.blocks[i].usable = bytes;
    told.block_count = LU_MAX(told.block_count, i + 1);
}

static void statistics_add_up(void **state) {
    (void)state;
    struct lu__classic *heap = make();
    void *first = lu__classic_alloc(heap, 64);
    for (int i = 0; i < 5; i++) assert_non_null(lu__area_sbrk(&heap->area, BLOCK));
    describe(heap, 0, 0, 256, LU_BLOCK_USED);
    describe(heap, 1, 256, 512, LU_BLOCK_FREE);
    describe(heap, 2, 768, 256, LU_BLOCK_CACHED);
    describe(heap, 3, 1024, 256, LU_BLOCK_TOP);
    describe(heap, 4, 1280, 256, LU_BLOCK_META);
    heap_check(heap);
    struct lu__classic_stats stats;
    lu__classic_stats(heap, &stats);
    assert_int_equal(stats.held, 6 * 256);
    assert_int_equal(stats.broken, 6 * 256);
    assert_int_equal(stats.break_moves, 6);
    assert_int_equal(stats.used_blocks, 1);
    assert_int_equal(stats.used_bytes, 256);
    assert_int_equal(stats.usable_bytes, 256);
    assert_int_equal(stats.asked_bytes, 64);
    assert_int_equal(stats.free_blocks, 3);
    assert_int_equal(stats.free_bytes, 1024);
    assert_int_equal(stats.largest_free, 512);
    assert_int_equal(stats.cached_bytes, 256);
    assert_int_equal(stats.meta_bytes, 256);
    assert_true(stats.internal == 0.75 && stats.external == 0.5);
    assert_non_null(first);
    lu__classic_destroy(heap);
}

static const char *fault_of(struct lu__classic *heap) {
    struct lu__classic_fault fault = {"none", 0};
    assert_false(lu__classic_validate(heap, &fault));
    return fault.what;
}

static void validate_checks_the_tiling(void **state) {
    (void)state;
    struct lu__classic *heap = make();
    assert_non_null(lu__classic_alloc(heap, 64));
    assert_non_null(lu__classic_alloc(heap, 64));
    describe(heap, 0, 0, 256, LU_BLOCK_USED);
    describe(heap, 1, 256, 256, LU_BLOCK_USED);
    heap_check(heap);

    told.unsound = true;
    assert_string_equal(fault_of(heap), "as told");
    told.unsound = false;
    told.blocks[1].start -= 32;
    assert_string_equal(fault_of(heap), "a block that begins before the end of the one before it");
    told.blocks[1].start += 32;
    told.blocks[1].bytes = 0;
    assert_string_equal(fault_of(heap), "a block of no bytes");
    told.blocks[1].bytes = 224;
    told.blocks[1].usable = 224;
    assert_string_equal(fault_of(heap), "the blocks are not all that is held");
    told.blocks[1].bytes = 256;
    told.blocks[1].usable = 300;
    assert_string_equal(fault_of(heap), "a payload that is larger than its block");
    told.blocks[1].usable = 60;
    assert_string_equal(fault_of(heap), "a block smaller than what was asked");
    told.blocks[1].usable = 200;
    told.blocks[1].header = 8;
    assert_string_equal(fault_of(heap), "a payload that is not aligned");
    told.blocks[1].header = 32;
    assert_string_equal(fault_of(heap), "a used block that the walk does not tell");
    told.blocks[1].header = 0;
    told.blocks[1].state = LU_BLOCK_FREE;
    assert_string_equal(fault_of(heap), "a used block that the walk does not tell");
    told.blocks[1].state = LU_BLOCK_USED;
    heap_check(heap);
    told.blocks[1].start += 4096;
    assert_string_equal(fault_of(heap), "a block outside of what is held");
    lu__classic_destroy(heap);
}

/* ---------------------------------------------------------------- misuse, names */

static void misuse_ends_the_process(void **state) {
    (void)state;
    int pipe_ends[2], status;
    char line[200] = "";
    assert_int_equal(pipe(pipe_ends), 0);
    pid_t child = fork();
    if (child == 0) {
        (void)dup2(pipe_ends[1], STDERR_FILENO);
        struct lu__classic *heap = heap_create(&policy, NULL, NULL);
        lu__classic_misuse(heap, "bad", (void *)0x1230);
        _exit(0);
    }
    (void)close(pipe_ends[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), 6);
    assert_true(read(pipe_ends[0], line, sizeof line - 1) > 0);
    line[strcspn(line, "\n")] = '\0'; /* an emulator adds a line of its own */
    assert_string_equal(line, "lucid: told: bad: block 0x1230");
    (void)close(pipe_ends[0]);
}

static void every_policy_has_its_name(void **state) {
    (void)state;
    static const char *const names[] = {"kr",    "first", "next", "best", "best_tree",
                                        "worst", "buddy", "slab", "dl",   "pt"};
    size_t count = 0;
    for (; lu__policies[count] != NULL; count++) {
        const struct lu__policy *one = lu__policies[count];
        assert_true(count < LU_COUNT_OF(names));
        assert_string_equal(one->name, names[count]);
        assert_ptr_equal(lu__policy_find(names[count]), one);
        assert_true(strlen(one->title) > 5 && strlen(one->source) > 5);
        assert_true(lu__is_pow2(one->align) && one->align >= LU_CLASSIC_ALIGN);
        assert_true(one->state_bytes >= sizeof(struct lu__classic));
    }
    assert_int_equal(count, LU_COUNT_OF(names));
    assert_null(lu__policy_find("bes"));
    assert_null(lu__policy_find(""));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(zero_where_it_is_not_known),
        cmocka_unit_test(resize_moves_what_cannot_stay),
        cmocka_unit_test(a_heap_that_cannot_start),
        cmocka_unit_test(statistics_add_up),
        cmocka_unit_test(validate_checks_the_tiling),
        cmocka_unit_test(misuse_ends_the_process),
        cmocka_unit_test(every_policy_has_its_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
