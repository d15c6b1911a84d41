/*
 * trace_compact.c - a raw trace made compact: each chunk is compressed by itself, without the room
 * behind it, and sealed with a CRC; at the end stands what the header of the raw file knew.
 *
 * A chunk that was still open when its program ended is taken as far as it has whole events, so
 * that what is written is sound whatever the program was doing. If compression makes a chunk
 * longer, it is stored as it is. The same trace gives the same bytes.
 */
#include "trace/trace_compact.h"

#include "record/trace_format.h"
#include "trace/trace_chunks.h"
#include "trace/trace_reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

enum { LEVEL = 3 }; /* 9 takes as long as the program that is recorded, for 2 % */

struct compaction {
    struct trace_chunks from;
    int fd;
    uint8_t *plain, *packed;
    size_t packed_room;
    struct trace_decoder *decoder;
    uint64_t events;
    bool cut;     /* events after last_tick are left out */
    bool shorter; /* there were such                     */
    uint64_t last_tick;
    struct trace_error *error;
};

static bool put(struct compaction *compaction, const void *bytes, size_t count) {
    const char *at = bytes;
    while (count > 0) {
        ssize_t put = write(compaction->fd, at, count);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0)
            return trace_refuse(compaction->error, UINT64_MAX, "cannot be written: %s",
                                strerror(errno));
        at += put;
        count -= (size_t)put;
    }
    return true;
}

static bool put_header(struct compaction *compaction) {
    const struct trace_chunks *from = &compaction->from;
    struct trace_header header = {
        .magic = TRACE_MAGIC,
        .version = TRACE_VERSION,
        .byte_order = TRACE_BYTE_ORDER,
        .bytes = (uint32_t)offsetof(struct trace_header, command) + from->command_bytes,
        .flags = from->flags | TRACE_COMPACT,
        .tick_shift = from->tick_shift,
        .pid = from->pid,
        .command_bytes = from->command_bytes,
        .session = from->session,
        .real_ns = from->real_ns,
    };
    memcpy(header.command, from->command, from->command_bytes);
    size_t checked = offsetof(struct trace_header, version);
    header.crc = crc32c(0, &header.version, header.bytes - checked);
    return put(compaction, &header, header.bytes);
}

/* The head's two CRCs, then head and data. */
static bool put_chunk(struct compaction *compaction, struct trace_chunk *head,
                      const uint8_t *data) {
    size_t from = offsetof(struct trace_chunk, kind), to = offsetof(struct trace_chunk, data_crc);
    size_t changing = offsetof(struct trace_chunk, sealed);
    head->magic = TRACE_CHUNK_MAGIC;
    head->room = (uint32_t)sizeof(*head) + head->data_bytes;
    head->sealed = 1;
    head->crc = crc32c(0, &head->kind, to - from);
    head->data_crc = crc32c(crc32c(0, &head->sealed, sizeof(*head) - changing), data,
                            head->data_bytes);
    return put(compaction, head, sizeof(*head)) && put(compaction, data, head->data_bytes);
}

/* An event of a thread that is left out, so that all behind it are, too. */
static bool is_beyond(struct compaction *compaction, const struct trace_record *record) {
    uint64_t tick = record->tag == TRACE_TAG_RESIZE ? record->end_tick : record->tick;
    if (!compaction->cut || tick <= compaction->last_tick) return false;
    compaction->shorter = true;
    return true;
}

/* Bytes of the whole events in `plain`, and how many these are. */
static uint32_t whole_events(struct compaction *compaction, const struct trace_place *place,
                             uint32_t *events) {
    struct trace_record record;
    struct trace_decoder *decoder = compaction->decoder;
    uint32_t bytes = 0;
    *events = 0;
    trace_decoder_init(decoder, &compaction->from, place, compaction->plain);
    while (trace_decode(decoder, &record) == TRACE_DECODED && !is_beyond(compaction, &record)) {
        ++*events;
        bytes = (uint32_t)(decoder->at - decoder->start);
    }
    return bytes;
}

static bool copy_chunk(struct compaction *compaction, const struct trace_place *place) {
    if (!trace_chunk_load(&compaction->from, place, compaction->plain, compaction->error))
        return false;
    struct trace_chunk head = {.kind = TRACE_EVENTS,
                               .coding = TRACE_PLAIN,
                               .thread = place->thread,
                               .number = place->number,
                               .tid = place->tid,
                               .tick = place->tick};
    head.plain_bytes = whole_events(compaction, place, &head.events);
    if (compaction->cut && head.events == 0) return true;
    if (place->sealed && !compaction->cut &&
        (head.plain_bytes != place->plain_bytes || head.events != place->events))
        return trace_refuse(compaction->error, place->offset,
                            "a chunk with bytes that are no event");
    compaction->events += head.events;
    const uint8_t *data = compaction->plain;
    head.data_bytes = head.plain_bytes;
    size_t packed = ZSTD_compress(compaction->packed, compaction->packed_room, compaction->plain,
                                  head.plain_bytes, LEVEL);
    if (!ZSTD_isError(packed) && packed < head.plain_bytes) {
        data = compaction->packed;
        head.data_bytes = (uint32_t)packed;
        head.coding = TRACE_ZSTD;
    }
    return put_chunk(compaction, &head, data);
}

static bool put_end(struct compaction *compaction) {
    struct trace_end end = compaction->from.end;
    struct trace_chunk head = {.kind = TRACE_END, .coding = TRACE_PLAIN};
    end.used = compaction->events;
    if (compaction->shorter) {
        end.ended = 0;
        end.tick = 0;
    }
    head.data_bytes = head.plain_bytes = sizeof(end);
    return put_chunk(compaction, &head, (const uint8_t *)&end);
}

static bool copy_all(struct compaction *compaction) {
    compaction->packed_room = ZSTD_compressBound(TRACE_LONGEST_CHUNK);
    compaction->plain = malloc(TRACE_LONGEST_CHUNK);
    compaction->packed = malloc(compaction->packed_room);
    compaction->decoder = malloc(sizeof(*compaction->decoder));
    if (compaction->plain == NULL || compaction->packed == NULL || compaction->decoder == NULL)
        return trace_refuse(compaction->error, 0, "out of memory");
    if (!put_header(compaction)) return false;
    for (size_t i = 0; i < compaction->from.count; i++)
        if (!copy_chunk(compaction, &compaction->from.places[i])) return false;
    return put_end(compaction);
}

static bool copy(struct compaction *compaction) {
    bool good = copy_all(compaction);
    free(compaction->plain);
    free(compaction->packed);
    free(compaction->decoder);
    trace_chunks_close(&compaction->from);
    return good;
}

bool trace_compact(const char *path, int fd, struct trace_error *error) {
    struct compaction compaction = {.fd = fd, .error = error};
    return trace_chunks_open(&compaction.from, path, error) && copy(&compaction);
}

bool trace_compact_until(const char *path, int fd, uint64_t last_ns, struct trace_error *error) {
    struct compaction compaction = {.fd = fd, .error = error, .cut = true};
    if (!trace_chunks_open(&compaction.from, path, error)) return false;
    compaction.last_tick = last_ns >> compaction.from.tick_shift;
    return copy(&compaction);
}
