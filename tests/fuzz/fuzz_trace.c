/*
 * fuzz_trace.c - the harness `trace`: a file of any bytes is read as a trace, and compacted.
 *
 * The first byte of the input says how the rest becomes a file:
 *
 *     0      as it is: damage to heads and lengths, foreign files
 *     1      as it is, but every CRC that is in its place is made right, so that what stands behind
 *            the checks is reached
 *     2..    as the events of chunks with right heads, of some threads: the decoder and the merge
 *
 * No call may crash, hang, or take more memory than the file's length explains. What is opened
 * must give the same events twice, block numbers in order; and what can be compacted must be a
 * trace, with the same figures if the file was whole.
 */
#include "check.h"

#include "../trace/make_trace.h"
#include "trace/trace_compact.h"

#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct made_trace made;
static char path[64], copy_path[64];
static int file = -1, copy = -1;

static void open_files(void) {
    file = memfd_create("trace", MFD_CLOEXEC);
    copy = memfd_create("copy", MFD_CLOEXEC);
    CHECK(file >= 0 && copy >= 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    snprintf(copy_path, sizeof copy_path, "/proc/self/fd/%d", copy);
}

/* ------------------------------------------------------------------ making the file ---------- */

static void make_as_is(const uint8_t *data, size_t size) {
    made.count = size < sizeof made.bytes ? size : sizeof made.bytes;
    memcpy(made.bytes, data, made.count);
}

static void fix_chunk(size_t at, struct trace_chunk *head) {
    head->magic = TRACE_CHUNK_MAGIC;
    head->crc = crc32c(0, &head->kind,
                       offsetof(struct trace_chunk, data_crc) - offsetof(struct trace_chunk, kind));
    size_t begin = at + sizeof *head, bytes = head->data_bytes;
    if (bytes > made.count - begin) return;
    size_t from = offsetof(struct trace_chunk, sealed);
    head->data_crc = crc32c(crc32c(0, &head->sealed, sizeof *head - from), made.bytes + begin,
                            bytes);
}

static void fix_checks(void) {
    struct trace_header header = {.bytes = 0};
    struct trace_chunk head;
    size_t fixed = offsetof(struct trace_header, command);
    size_t from = offsetof(struct trace_header, version);
    if (made.count < fixed) return;
    memcpy(&header, made.bytes, fixed);
    bool is_compact = (header.flags & TRACE_COMPACT) != 0;
    size_t checked = is_compact ? header.bytes : offsetof(struct trace_header, end);
    if (checked < from || checked > made.count) return;
    header.crc = crc32c(0, made.bytes + from, checked - from);
    memcpy(made.bytes, &header, fixed);
    for (size_t at = header.bytes; at <= made.count && made.count - at >= sizeof head;) {
        memcpy(&head, made.bytes + at, sizeof head);
        fix_chunk(at, &head);
        memcpy(made.bytes + at, &head, sizeof head);
        if (head.room == 0) return;
        at += head.room;
    }
}

/* The bytes are dealt out to the threads in pieces of some length; the chunks are left open, since
 * only a reader knows how many events there are. */
static void make_events(const uint8_t *data, size_t size, unsigned threads) {
    struct made_chunk chunk;
    made_trace_init(&made, "fuzz", 5);
    for (uint32_t i = 0; i < threads; i++) {
        size_t piece = size / (threads - i), most = sizeof chunk.data;
        made_chunk_init(&chunk, i, 0, 1000 + i);
        chunk.count = piece < most ? piece : most;
        memcpy(chunk.data, data, chunk.count);
        made_trace_add(&made, &chunk, false);
        data += piece;
        size -= piece;
    }
    made_trace_end(&made, true);
}

static void write_file(const uint8_t *data, size_t size) {
    unsigned how = size > 0 ? data[0] : 0;
    if (size > 0) data++, size--;
    if (how < 2)
        make_as_is(data, size);
    else
        make_events(data, size, 1 + how % 6);
    if (how == 1) fix_checks();
    CHECK_EQ(ftruncate(file, 0), 0);
    CHECK_EQ(pwrite(file, made.bytes, made.count, 0), made.count);
}

/* ------------------------------------------------------------------ reading it --------------- */

static uint64_t mix(uint64_t hash, uint64_t value) {
    return (hash ^ value) * 0x100000001b3u;
}

static uint64_t read_all(struct trace *trace) {
    struct trace_event event;
    uint64_t hash = 0, events = 0, blocks = 0;
    while (trace_next(trace, &event)) {
        events++;
        if (event.kind == TRACE_ALLOC || event.kind == TRACE_RESIZE)
            CHECK_EQ(event.block, blocks++);
        else if (event.kind == TRACE_FREE)
            CHECK(event.block < blocks);
        if (event.kind == TRACE_RESIZE) CHECK(event.old < event.block);
        hash = mix(mix(mix(hash, event.kind), event.block), event.size);
        hash = mix(mix(mix(hash, event.thread), event.time_ns), event.align);
    }
    CHECK_EQ(events, trace_info(trace)->events);
    CHECK_EQ(blocks, trace_info(trace)->blocks);
    return hash;
}

static void check_reason(const struct trace_error *error) {
    CHECK(error->reason[0] != '\0');
    CHECK(strnlen(error->reason, sizeof error->reason) < sizeof error->reason);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct trace_error error = {.reason = ""};
    if (file < 0) open_files();
    write_file(data, size);
    struct trace *trace = trace_open(path, &error);
    uint64_t hash = 0;
    if (trace == NULL) {
        check_reason(&error);
    } else {
        hash = read_all(trace);
        trace_rewind(trace);
        CHECK_EQ(read_all(trace), hash);
    }
    CHECK_EQ(ftruncate(copy, 0), 0);
    CHECK_EQ(lseek(copy, 0, SEEK_SET), 0);
    error.reason[0] = '\0';
    if (!trace_compact(path, copy, &error)) {
        check_reason(&error);
    } else {
        struct trace *compact = trace_open(copy_path, &error);
        CHECK_THAT(compact != NULL, "byte %llu of what was compacted: %s",
                   (unsigned long long)error.offset, error.reason);
        uint64_t copied = read_all(compact);
        if (trace != NULL) CHECK_EQ(copied, hash);
        trace_close(compact);
    }
    trace_close(trace);
    return 0;
}
