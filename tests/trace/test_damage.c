/*
 * test_damage.c - a small trace, raw and compact, cut at every byte and with every bit of it
 * flipped: it is refused with a reason, or its events can be read and make sense.
 *
 * The trace is made here, byte by byte as docs/TRACE.md has it, by an encoder of the test's own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "make_trace.h"
#include "trace/trace_compact.h"

static struct made_trace raw, compact;

static void write_all(int fd, const void *bytes, size_t count) {
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(pwrite(fd, bytes, count, 0), count);
}

/* Two threads, the second of two chunks; a reuse of an address across them; every kind. */
static void make_raw(struct made_trace *made) {
    struct made_chunk chunk;
    made_trace_init(made, "program\0-x", 11);
    made_chunk_init(&chunk, 0, 0, 100);
    made_event(&chunk, TRACE_TAG_MALLOC, 0, 0x5000, 24);
    made_event(&chunk, TRACE_TAG_CALLOC, 5, 0x5020, 300);
    made_event(&chunk, TRACE_TAG_ALIGNED, 1000, 0x6000, 4096);
    made_event(&chunk, TRACE_TAG_FREE, 0, 0x5000, 0);
    made_resize(&chunk, 2, 0x5020, 3, 0x7008, 70000);
    made_trace_add(made, &chunk, true);
    made_chunk_init(&chunk, 1, 0, 90);
    made_event(&chunk, TRACE_TAG_MALLOC, 1017, 0x5000, 24); /* in the tick of its free */
    made_trace_add(made, &chunk, true);
    made_chunk_init(&chunk, 1, 1, 2000);
    made_event(&chunk, TRACE_TAG_FREE, 0, 0x5000, 0);
    made_event(&chunk, TRACE_TAG_THREAD_END, 9, 0, 0);
    made_trace_add(made, &chunk, false);
    made_trace_end(made, true);
}

static int setup(void **state) {
    struct trace_error error;
    (void)state;
    make_raw(&raw);
    int from = memfd_create("raw", MFD_CLOEXEC), to = memfd_create("compact", MFD_CLOEXEC);
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", from);
    write_all(from, raw.bytes, raw.count);
    if (!trace_compact(path, to, &error)) {
        fprintf(stderr, "byte %llu: %s\n", (unsigned long long)error.offset, error.reason);
        return -1;
    }
    compact.count = (size_t)lseek(to, 0, SEEK_END);
    assert_int_equal(pread(to, compact.bytes, sizeof(compact.bytes), 0), compact.count);
    close(from);
    close(to);
    return 0;
}

/* A trace of these bytes; NULL if it was refused, with a reason. */
static struct trace *open_bytes(const void *bytes, size_t count, struct trace_error *error) {
    int fd = memfd_create("trace", MFD_CLOEXEC);
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    write_all(fd, bytes, count);
    memset(error, 0, sizeof(*error));
    struct trace *trace = trace_open(path, error);
    close(fd);
    if (trace == NULL) {
        assert_true(error->reason[0] != '\0');
        assert_true(strlen(error->reason) < sizeof(error->reason));
    }
    return trace;
}

/* All of it can be read, and agrees with the figures. */
static void read_all(struct trace *trace) {
    struct trace_event event;
    const struct trace_info *info = trace_info(trace);
    for (int time = 0; time < 2; time++) {
        uint64_t events = 0, blocks = 0;
        while (trace_next(trace, &event)) {
            events++;
            if (event.kind == TRACE_ALLOC || event.kind == TRACE_RESIZE)
                assert_int_equal(event.block, blocks++);
            if (event.kind == TRACE_FREE) assert_true(event.block < blocks);
            assert_true(event.thread < info->threads);
        }
        assert_int_equal(events, info->events);
        assert_int_equal(blocks, info->blocks);
        trace_rewind(trace);
    }
}

static void check_whole(const struct made_trace *made) {
    struct trace_error error;
    struct trace *trace = open_bytes(made->bytes, made->count, &error);
    if (trace == NULL) fail_msg("byte %llu: %s", (unsigned long long)error.offset, error.reason);
    const struct trace_info *info = trace_info(trace);
    assert_string_equal(info->format, "lucid 1");
    assert_string_equal(info->command, "program -x");
    assert_int_equal(info->events, 8);
    assert_int_equal(info->chunks, 3);
    assert_int_equal(info->allocs, 4);
    assert_int_equal(info->frees, 2);
    assert_int_equal(info->resizes, 1);
    assert_int_equal(info->threads, 2);
    assert_int_equal(info->live_blocks, 2);
    assert_int_equal(info->live_bytes, 74096);
    assert_int_equal(info->peak_live_bytes, 74096 + 24);
    assert_int_equal(info->unknown_frees + info->double_allocs + info->repaired + info->lost, 0);
    assert_int_equal(info->duration_ns, 2009u << TRACE_TICK_SHIFT);
    assert_false(info->torn);
    assert_true(info->ended);
    read_all(trace);
    trace_close(trace);
}

static void a_whole_trace_has_its_events(void **state) {
    (void)state;
    check_whole(&raw);
    check_whole(&compact);
}

static void the_events_are_those_that_were_made(void **state) {
    static const struct trace_event expected[] = {
        {TRACE_ALLOC, false, 0, 100, 0, 0, 24, 0, 0},
        {TRACE_ALLOC, true, 0, 105, 1, 0, 300, 0, 0},
        {TRACE_ALLOC, false, 0, 1105, 2, 0, 4096, 4096, 0},
        {TRACE_FREE, false, 0, 1105, 0, 0, 0, 0, 0},
        {TRACE_ALLOC, false, 1, 1107, 3, 0, 24, 0, 0},
        {TRACE_RESIZE, false, 0, 1110, 4, 1, 70000, 0, 0},
        {TRACE_FREE, false, 1, 2000, 3, 0, 0, 0, 0},
        {TRACE_THREAD_END, false, 1, 2009, 0, 0, 0, 0, 0},
    };
    struct trace_error error;
    struct trace_event event;
    (void)state;
    struct trace *trace = open_bytes(compact.bytes, compact.count, &error);
    assert_non_null(trace);
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        const struct trace_event *wanted = &expected[i];
        assert_true(trace_next(trace, &event));
        assert_int_equal(event.kind, wanted->kind);
        assert_int_equal(event.zeroed, wanted->zeroed);
        assert_int_equal(event.thread, wanted->thread);
        assert_int_equal(event.time_ns, wanted->time_ns << TRACE_TICK_SHIFT);
        assert_int_equal(event.block, wanted->block);
        assert_int_equal(event.old, wanted->old);
        assert_int_equal(event.size, wanted->size);
        assert_int_equal(event.align, wanted->align);
    }
    assert_false(trace_next(trace, &event));
    trace_close(trace);
}

static void compacting_is_repeatable(void **state) {
    struct trace_error error;
    struct made_trace again;
    char path[64];
    (void)state;
    int from = memfd_create("compact", MFD_CLOEXEC), to = memfd_create("again", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", from);
    write_all(from, compact.bytes, compact.count);
    assert_true(trace_compact(path, to, &error));
    assert_int_equal(pread(to, again.bytes, sizeof(again.bytes), 0), compact.count);
    assert_memory_equal(again.bytes, compact.bytes, compact.count);
    close(from);
    close(to);
}

/* Cut anywhere: less can be read, never more, and it is said so. */
static void check_torn(const struct made_trace *made, size_t step) {
    uint64_t events = 0;
    for (size_t count = 0; count < made->count; count += step) {
        struct trace_error error;
        struct trace *trace = open_bytes(made->bytes, count, &error);
        if (trace == NULL) {
            assert_true(count < made->first_chunk);
            continue;
        }
        assert_true(count >= made->first_chunk);
        const struct trace_info *info = trace_info(trace);
        assert_true(info->events >= events && info->events <= 8);
        events = info->events;
        if (made == &compact) assert_true(info->torn && !info->ended);
        read_all(trace);
        trace_close(trace);
    }
}

static void a_compact_trace_may_be_torn_at_every_byte(void **state) {
    (void)state;
    compact.first_chunk = offsetof(struct trace_header, command) + 11;
    check_torn(&compact, 1);
}

static void a_raw_trace_may_be_torn(void **state) {
    (void)state;
    check_torn(&raw, 13);
}

/* What the CRCs do not cover: room behind the events, and, of a chunk that is still written, the
 * events. In a compact trace there is no such byte. */
static size_t check_flips(const struct made_trace *made, size_t from, size_t to) {
    struct made_trace *copy = malloc(sizeof(*copy));
    size_t taken = 0;
    memcpy(copy, made, sizeof(*copy));
    for (size_t at = from; at < to; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            struct trace_error error;
            copy->bytes[at] ^= (unsigned char)(1u << bit);
            struct trace *trace = open_bytes(copy->bytes, copy->count, &error);
            if (trace != NULL) {
                read_all(trace);
                trace_close(trace);
                taken++;
            } else {
                assert_true(error.offset <= copy->count);
            }
            copy->bytes[at] = made->bytes[at];
        }
    }
    free(copy);
    return taken;
}

static void every_flipped_bit_of_a_compact_trace_is_noticed(void **state) {
    (void)state;
    assert_int_equal(check_flips(&compact, 0, compact.count), 0);
}

static void flipped_bits_of_a_raw_trace_do_no_harm(void **state) {
    (void)state;
    (void)check_flips(&raw, 0, 80);
    for (size_t chunk = raw.first_chunk; chunk < raw.count; chunk += MADE_ROOM)
        (void)check_flips(&raw, chunk, chunk + sizeof(struct trace_chunk) + 40);
}

static void foreign_files_are_refused(void **state) {
    static const char *const texts[] = {
        "", "\177ELF", "\x89lucidST\1", "{\"a\": 1}\n", "\x89lucidTR", "(\xb5/\xfd", "hello\n"};
    struct trace_error error;
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_null(open_bytes(texts[i], strlen(texts[i]), &error));
    assert_null(trace_open("/no/such/file", &error));
    assert_string_equal(error.reason, "cannot be opened: No such file or directory");
    assert_null(trace_open("/", &error));
    assert_null(trace_open("/dev/zero", &error));
    assert_string_equal(error.reason, "not a regular file");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_trace_has_its_events),
        cmocka_unit_test(the_events_are_those_that_were_made),
        cmocka_unit_test(compacting_is_repeatable),
        cmocka_unit_test(a_compact_trace_may_be_torn_at_every_byte),
        cmocka_unit_test(a_raw_trace_may_be_torn),
        cmocka_unit_test(every_flipped_bit_of_a_compact_trace_is_noticed),
        cmocka_unit_test(flipped_bits_of_a_raw_trace_do_no_harm),
        cmocka_unit_test(foreign_files_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
