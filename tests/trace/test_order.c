/*
 * test_order.c - the order of events of several threads: ties within a tick, clocks that differ,
 * frees that were not recorded, blocks from before the recording.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "make_trace.h"
#include "trace/trace.h"

enum { THREADS = 3 };
static struct made_trace made;
static struct made_chunk chunks[THREADS];

static int setup(void **state) {
    (void)state;
    made_trace_init(&made, "", 0);
    for (uint32_t i = 0; i < THREADS; i++) made_chunk_init(&chunks[i], i, 0, 1000);
    return 0;
}

static struct trace *open_made(void) {
    struct trace_error error;
    char path[64];
    for (uint32_t i = 0; i < THREADS; i++) made_trace_add(&made, &chunks[i], true);
    made_trace_end(&made, true);
    int fd = memfd_create("order", MFD_CLOEXEC);
    assert_int_equal(pwrite(fd, made.bytes, made.count, 0), made.count);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    struct trace *trace = trace_open(path, &error);
    close(fd);
    if (trace == NULL) fail_msg("byte %llu: %s", (unsigned long long)error.offset, error.reason);
    return trace;
}

static void expect(struct trace *trace, enum trace_kind kind, uint64_t block) {
    struct trace_event event;
    assert_true(trace_next(trace, &event));
    assert_int_equal(event.kind, kind);
    assert_int_equal(event.block, block);
}

static void expect_end(struct trace *trace, uint64_t repaired, uint64_t double_allocs,
                       uint64_t unknown_frees) {
    struct trace_event event;
    assert_false(trace_next(trace, &event));
    assert_int_equal(trace_info(trace)->repaired, repaired);
    assert_int_equal(trace_info(trace)->double_allocs, double_allocs);
    assert_int_equal(trace_info(trace)->unknown_frees, unknown_frees);
    trace_close(trace);
}

static void in_one_tick_a_free_comes_before_the_reuse(void **state) {
    (void)state;
    made_event(&chunks[1], TRACE_TAG_MALLOC, 0, 0x5000, 10);
    made_event(&chunks[1], TRACE_TAG_FREE, 10, 0x5000, 0);
    made_event(&chunks[0], TRACE_TAG_MALLOC, 10, 0x5000, 20);
    struct trace *trace = open_made();
    expect(trace, TRACE_ALLOC, 0);
    expect(trace, TRACE_FREE, 0);
    expect(trace, TRACE_ALLOC, 1);
    expect_end(trace, 0, 0, 0);
}

static void in_one_tick_an_allocation_comes_before_its_free(void **state) {
    (void)state;
    made_event(&chunks[1], TRACE_TAG_MALLOC, 10, 0x5000, 10);
    made_event(&chunks[0], TRACE_TAG_FREE, 10, 0x5000, 0);
    struct trace *trace = open_made();
    expect(trace, TRACE_ALLOC, 0);
    expect(trace, TRACE_FREE, 0);
    expect_end(trace, 0, 0, 0);
}

/* The clock of thread 0 is 50 ticks behind: it reuses what seems to be live. */
static void clocks_that_differ_are_repaired(void **state) {
    (void)state;
    made_event(&chunks[1], TRACE_TAG_MALLOC, 0, 0x5000, 10);
    made_event(&chunks[1], TRACE_TAG_MALLOC, 30, 0x6000, 10);
    made_event(&chunks[1], TRACE_TAG_FREE, 30, 0x5000, 0);
    made_event(&chunks[0], TRACE_TAG_MALLOC, 10, 0x5000, 20);
    made_event(&chunks[0], TRACE_TAG_FREE, 1, 0x5000, 0);
    struct trace *trace = open_made();
    expect(trace, TRACE_ALLOC, 0);
    expect(trace, TRACE_ALLOC, 1);
    expect(trace, TRACE_FREE, 0);
    expect(trace, TRACE_ALLOC, 2);
    expect(trace, TRACE_FREE, 2);
    expect_end(trace, 1, 0, 0);
}

/* Each of two threads waits for the other, through a third address. */
static void chains_of_waiting_threads_end(void **state) {
    (void)state;
    made_event(&chunks[2], TRACE_TAG_MALLOC, 0, 0x5000, 10);
    made_event(&chunks[2], TRACE_TAG_MALLOC, 0, 0x6000, 10);
    made_event(&chunks[0], TRACE_TAG_MALLOC, 1, 0x5000, 10);
    made_event(&chunks[0], TRACE_TAG_FREE, 0, 0x6000, 0);
    made_event(&chunks[1], TRACE_TAG_MALLOC, 1, 0x6000, 10);
    made_event(&chunks[2], TRACE_TAG_FREE, 40, 0x5000, 0);
    struct trace *trace = open_made();
    expect(trace, TRACE_ALLOC, 0);
    expect(trace, TRACE_ALLOC, 1);
    expect(trace, TRACE_FREE, 0);
    expect(trace, TRACE_ALLOC, 2);
    expect(trace, TRACE_FREE, 1);
    expect(trace, TRACE_ALLOC, 3);
    /* The one was repaired; the other found its free in its own tick. */
    expect_end(trace, 1, 0, 0);
}

static void a_free_that_is_missing_is_put_in(void **state) {
    (void)state;
    made_event(&chunks[0], TRACE_TAG_MALLOC, 0, 0x5000, 10);
    made_event(&chunks[0], TRACE_TAG_MALLOC, 1, 0x5000, 20);
    made_event(&chunks[1], TRACE_TAG_MALLOC, 5000, 0x6000, 30);
    struct trace *trace = open_made();
    expect(trace, TRACE_ALLOC, 0);
    expect(trace, TRACE_FREE, 0);
    expect(trace, TRACE_ALLOC, 1);
    expect(trace, TRACE_ALLOC, 2);
    expect_end(trace, 0, 1, 0);
}

static void a_free_of_an_unknown_block_is_left_out(void **state) {
    (void)state;
    made_event(&chunks[0], TRACE_TAG_FREE, 0, 0x5000, 0);
    made_event(&chunks[1], TRACE_TAG_MALLOC, 5, 0x5000, 10); /* not what was freed */
    struct trace *trace = open_made();
    expect(trace, TRACE_ALLOC, 0);
    expect_end(trace, 0, 0, 1);
}

static void resizing_an_unknown_block_is_an_allocation(void **state) {
    (void)state;
    made_resize(&chunks[0], 0, 0x5000, 3, 0x6000, 10);
    struct trace *trace = open_made();
    expect(trace, TRACE_ALLOC, 0);
    expect_end(trace, 0, 0, 1);
}

/* Between the two times of a realloc its old address may be given out. */
static void the_old_address_of_a_resize_may_be_reused_at_once(void **state) {
    (void)state;
    made_event(&chunks[0], TRACE_TAG_MALLOC, 0, 0x5000, 10);
    made_resize(&chunks[0], 10, 0x5000, 100, 0x6000, 10);
    made_event(&chunks[1], TRACE_TAG_MALLOC, 50, 0x5000, 10);
    struct trace *trace = open_made();
    expect(trace, TRACE_ALLOC, 0);
    expect(trace, TRACE_ALLOC, 1);
    expect(trace, TRACE_RESIZE, 2);
    expect_end(trace, 0, 0, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(in_one_tick_a_free_comes_before_the_reuse, setup),
        cmocka_unit_test_setup(in_one_tick_an_allocation_comes_before_its_free, setup),
        cmocka_unit_test_setup(clocks_that_differ_are_repaired, setup),
        cmocka_unit_test_setup(chains_of_waiting_threads_end, setup),
        cmocka_unit_test_setup(a_free_that_is_missing_is_put_in, setup),
        cmocka_unit_test_setup(a_free_of_an_unknown_block_is_left_out, setup),
        cmocka_unit_test_setup(resizing_an_unknown_block_is_an_allocation, setup),
        cmocka_unit_test_setup(the_old_address_of_a_resize_may_be_reused_at_once, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
