/* make_trace.h - traces made by hand, for tests and the fuzzer: an encoder that knows neither of
 * the tables of addresses nor of files, so that it shares no mistake with the recording library. */
#ifndef LUCID_MAKE_TRACE_H
#define LUCID_MAKE_TRACE_H

#include <stdbool.h>
#include <string.h>

#include "record/trace_format.h"

enum { MADE_HEADER = 4096, MADE_ROOM = 4096, MADE_MOST = 65536 };

struct made_trace {
    size_t count, first_chunk;
    unsigned char bytes[MADE_MOST];
};

struct made_chunk {
    struct trace_chunk head;
    unsigned char data[MADE_ROOM - sizeof(struct trace_chunk)];
    size_t count;
    uint64_t address; /* rotated */
};

static inline void made_number(struct made_chunk *chunk, uint64_t number) {
    for (; number >= 128; number >>= 7) chunk->data[chunk->count++] = (unsigned char)(number | 128);
    chunk->data[chunk->count++] = (unsigned char)number;
}

static inline void made_chunk_init(struct made_chunk *chunk, uint32_t thread, uint32_t number,
                                   uint64_t tick) {
    memset(chunk, 0, sizeof(*chunk));
    chunk->head = (struct trace_chunk){.magic = TRACE_CHUNK_MAGIC,
                                       .kind = TRACE_EVENTS,
                                       .thread = thread,
                                       .number = number,
                                       .room = MADE_ROOM,
                                       .tick = tick};
}

static inline void made_tag(struct made_chunk *chunk, unsigned tag, uint64_t ticks,
                            uint64_t address) {
    uint64_t value = trace_rotate(address), far = trace_zigzag(value - chunk->address);
    if (tag != TRACE_TAG_THREAD_END) tag |= (unsigned)(far & 3) << TRACE_ADDRESS_SHIFT;
    tag |= (unsigned)(ticks < TRACE_LONG_TIME ? ticks : TRACE_LONG_TIME) << TRACE_TIME_SHIFT;
    chunk->data[chunk->count++] = (unsigned char)tag;
    if (ticks >= TRACE_LONG_TIME) made_number(chunk, ticks - TRACE_LONG_TIME);
    chunk->head.events++;
    if ((tag & 7) == TRACE_TAG_THREAD_END) return;
    made_number(chunk, far >> 2);
    chunk->address = value;
}

/* ALIGNED: the size is the alignment as well. */
static inline void made_event(struct made_chunk *chunk, unsigned tag, uint64_t ticks,
                              uint64_t address, uint64_t size) {
    made_tag(chunk, tag, ticks, address);
    if (tag == TRACE_TAG_FREE || tag == TRACE_TAG_THREAD_END) return;
    made_number(chunk, size);
    if (tag == TRACE_TAG_ALIGNED)
        chunk->data[chunk->count++] = (unsigned char)(63 - __builtin_clzll(size));
}

static inline void made_resize(struct made_chunk *chunk, uint64_t ticks, uint64_t address,
                               uint64_t duration, uint64_t to, uint64_t size) {
    made_tag(chunk, TRACE_TAG_RESIZE, ticks, address);
    made_number(chunk, size);
    made_number(chunk, duration);
    made_number(chunk, trace_zigzag(trace_rotate(to) - chunk->address));
    chunk->address = trace_rotate(to);
}

static inline void made_trace_init(struct made_trace *made, const char *command, size_t bytes) {
    memset(made, 0, sizeof(*made));
    struct trace_header header = {.magic = TRACE_MAGIC,
                                  .version = TRACE_VERSION,
                                  .byte_order = TRACE_BYTE_ORDER,
                                  .bytes = MADE_HEADER,
                                  .tick_shift = TRACE_TICK_SHIFT,
                                  .pid = 1,
                                  .command_bytes = (uint32_t)bytes};
    memcpy(header.command, command, bytes);
    size_t from = offsetof(struct trace_header, version);
    header.crc = crc32c(0, &header.version, offsetof(struct trace_header, end) - from);
    memcpy(made->bytes, &header, sizeof(header));
    made->count = made->first_chunk = MADE_HEADER;
}

static inline void made_trace_add(struct made_trace *made, struct made_chunk *chunk, bool sealed) {
    struct trace_chunk *head = &chunk->head;
    head->crc = crc32c(0, &head->kind,
                       offsetof(struct trace_chunk, data_crc) - offsetof(struct trace_chunk, kind));
    head->data_bytes = (uint32_t)chunk->count;
    head->sealed = sealed;
    head->plain_bytes = sealed ? head->data_bytes : 0;
    if (!sealed) head->events = 0;
    if (sealed) {
        size_t from = offsetof(struct trace_chunk, sealed);
        uint32_t crc = crc32c(0, &head->sealed, sizeof(*head) - from);
        head->data_crc = crc32c(crc, chunk->data, chunk->count);
    }
    memcpy(made->bytes + made->count, head, sizeof(*head));
    memcpy(made->bytes + made->count + sizeof(*head), chunk->data, chunk->count);
    made->count += MADE_ROOM;
}

static inline void made_trace_end(struct made_trace *made, bool ended) {
    struct trace_end end = {.used = made->count, .threads = 2, .ended = ended};
    memcpy(made->bytes + offsetof(struct trace_header, end), &end, sizeof(end));
}

#endif
