/*
 * trace_chunks.c - finds the chunks of a trace and checks what their heads say.
 *
 * The file is walked from head to head (`room` leads to the next). In a raw file a place whose head
 * was never written is zero and is passed over, a grain at a time. What may end a file early is a
 * copy that was cut, or a program that was killed: then the last chunk is cut (`torn`), or has no
 * end behind it. Anything else that does not fit is damage, and the file is refused with the place.
 *
 * Lengths are believed only after the check of the head; memory is bounded by the length of the
 * file and TRACE_LONGEST_CHUNK.
 */
#include "trace/trace_chunks.h"

#include "record/trace_format.h"
#include "trace/trace_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

enum { FIXED = offsetof(struct trace_header, command) };

/* Bytes read; fewer at the end of the file. */
static size_t read_at(const struct trace_chunks *chunks, uint64_t from, void *to, size_t bytes) {
    size_t done = 0;
    while (done < bytes) {
        ssize_t got = pread(chunks->fd, (char *)to + done, bytes - done, (off_t)(from + done));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        done += (size_t)got;
    }
    return done;
}

/* ------------------------------------------------------------------ the header --------------- */

bool trace_lucid_is(const unsigned char *first, size_t bytes) {
    return bytes >= 8 && memcmp(first, TRACE_MAGIC, 8) == 0;
}

static bool check_numbers(const struct trace_header *header, struct trace_error *error) {
    if (header->version != TRACE_VERSION)
        return trace_refuse(error, offsetof(struct trace_header, version),
                            "format version %u; this program reads version %d", header->version,
                            TRACE_VERSION);
    if (header->byte_order != TRACE_BYTE_ORDER)
        return trace_refuse(error, offsetof(struct trace_header, byte_order),
                            "written on a machine of another byte order");
    bool compact = (header->flags & TRACE_COMPACT) != 0;
    bool sized = compact ? header->bytes == FIXED + header->command_bytes
                         : header->bytes >= sizeof(*header) && header->bytes <= 65536 &&
                               header->bytes % TRACE_GRAIN == 0;
    if (header->command_bytes > TRACE_COMMAND_BYTES || !sized)
        return trace_refuse(error, offsetof(struct trace_header, bytes),
                            "a header of %u bytes with a command of %u", header->bytes,
                            header->command_bytes);
    if (header->tick_shift > 30)
        return trace_refuse(error, offsetof(struct trace_header, tick_shift), "ticks of 2^%u ns",
                            header->tick_shift);
    return true;
}

static bool read_header(struct trace_chunks *chunks, struct trace_header *header,
                        struct trace_error *error) {
    size_t got = read_at(chunks, 0, header, sizeof(*header));
    if (got < FIXED) return trace_refuse(error, got, "the file ends in the header");
    if (!trace_lucid_is((const unsigned char *)header, got))
        return trace_refuse(error, 0, "not a trace of lucid");
    if (!check_numbers(header, error)) return false;
    bool compact = (header->flags & TRACE_COMPACT) != 0;
    size_t checked = compact ? header->bytes : offsetof(struct trace_header, end);
    if (got < checked || chunks->file_bytes < header->bytes)
        return trace_refuse(error, got, "the file ends in the header");
    size_t from = offsetof(struct trace_header, version);
    if (crc32c(0, (char *)header + from, checked - from) != header->crc)
        return trace_refuse(error, offsetof(struct trace_header, crc),
                            "the header is damaged (its CRC does not fit)");
    return true;
}

static bool keep_header(struct trace_chunks *chunks, const struct trace_header *header,
                        struct trace_error *error) {
    chunks->flags = header->flags;
    chunks->tick_shift = header->tick_shift;
    chunks->pid = header->pid;
    chunks->session = header->session;
    chunks->real_ns = header->real_ns;
    chunks->command_bytes = header->command_bytes;
    chunks->command = malloc(header->command_bytes + 1u);
    if (chunks->command == NULL) return trace_refuse(error, 0, "out of memory");
    memcpy(chunks->command, header->command, header->command_bytes);
    chunks->command[header->command_bytes] = '\0';
    if ((header->flags & TRACE_COMPACT) == 0) {
        chunks->end = header->end;
        chunks->has_end = true;
    }
    return true;
}

/* ------------------------------------------------------------------ heads -------------------- */

static bool is_zero(const struct trace_chunk *head) {
    static const struct trace_chunk zero;
    return memcmp(head, &zero, sizeof(zero)) == 0;
}

static bool check_head(const struct trace_chunks *chunks, uint64_t offset,
                       const struct trace_chunk *head, struct trace_error *error) {
    size_t from = offsetof(struct trace_chunk, kind), to = offsetof(struct trace_chunk, data_crc);
    bool compact = (chunks->flags & TRACE_COMPACT) != 0;
    if (head->magic != TRACE_CHUNK_MAGIC)
        return trace_refuse(error, offset, "no chunk begins here");
    if (crc32c(0, &head->kind, to - from) != head->crc)
        return trace_refuse(error, offset, "the head of a chunk is damaged (its CRC does not fit)");
    bool known = head->kind == TRACE_EVENTS || (head->kind == TRACE_END && compact);
    if (!known || head->coding > TRACE_ZSTD || head->zero != 0 || head->zero2 != 0)
        return trace_refuse(error, offset, "a chunk of unknown kind %u, coding %u", head->kind,
                            head->coding);
    if (head->room < sizeof(*head) || head->room > sizeof(*head) + 2u * TRACE_LONGEST_CHUNK ||
        (!compact && head->room % TRACE_GRAIN != 0))
        return trace_refuse(error, offset, "a chunk of %u bytes", head->room);
    if (head->sealed > 1 || (compact && head->sealed == 0))
        return trace_refuse(error, offset, "a chunk that is not complete in a complete trace");
    return true;
}

/* The part of the head that changes, and the data's length. */
static bool check_data(const struct trace_chunks *chunks, uint64_t offset,
                       const struct trace_chunk *head, struct trace_error *error) {
    uint32_t most = head->room - (uint32_t)sizeof(*head);
    bool compact = (chunks->flags & TRACE_COMPACT) != 0;
    uint32_t plain = head->sealed ? head->plain_bytes : head->data_bytes;
    bool fits = compact ? head->data_bytes == most : head->data_bytes <= most;
    if (!fits || plain > TRACE_LONGEST_CHUNK || head->zero3 != 0 ||
        (head->coding == TRACE_PLAIN && plain != head->data_bytes))
        return trace_refuse(error, offset, "a chunk with %u bytes, %u unpacked, in %u",
                            head->data_bytes, plain, most);
    return true;
}

static bool add_place(struct trace_chunks *chunks, uint64_t offset, const struct trace_chunk *head,
                      struct trace_error *error) {
    if ((chunks->count & (chunks->count - 1)) == 0) {
        size_t room = chunks->count == 0 ? 1 : 2 * chunks->count;
        struct trace_place *more = reallocarray(chunks->places, room, sizeof(*more));
        if (more == NULL) return trace_refuse(error, offset, "out of memory");
        chunks->places = more;
    }
    chunks->places[chunks->count++] = (struct trace_place){
        .offset = offset,
        .tick = head->tick,
        .thread = head->thread,
        .number = head->number,
        .tid = head->tid,
        .data_bytes = head->data_bytes,
        .plain_bytes = head->sealed ? head->plain_bytes : head->data_bytes,
        .events = head->events,
        .data_crc = head->data_crc,
        .coding = head->coding,
        .sealed = head->sealed != 0,
    };
    return true;
}

static bool take_end(struct trace_chunks *chunks, uint64_t offset, const struct trace_chunk *head,
                     struct trace_error *error) {
    struct trace_place place = {.offset = offset,
                                .data_bytes = head->data_bytes,
                                .plain_bytes = head->plain_bytes,
                                .events = head->events,
                                .data_crc = head->data_crc,
                                .sealed = true};
    if (head->coding != TRACE_PLAIN || head->data_bytes != sizeof(chunks->end))
        return trace_refuse(error, offset, "an end of %u bytes", head->data_bytes);
    if (!trace_chunk_load(chunks, &place, (uint8_t *)&chunks->end, error)) return false;
    if (offset + head->room != chunks->file_bytes)
        return trace_refuse(error, offset + head->room, "something follows behind the end");
    uint64_t events = 0;
    for (size_t i = 0; i < chunks->count; i++) events += chunks->places[i].events;
    if (events != chunks->end.used)
        return trace_refuse(error, offset, "%llu events, and the end says %llu",
                            (unsigned long long)events, (unsigned long long)chunks->end.used);
    chunks->has_end = true;
    return true;
}

/* ------------------------------------------------------------------ the walk ----------------- */

static bool walk(struct trace_chunks *chunks, uint64_t offset, struct trace_error *error) {
    bool compact = (chunks->flags & TRACE_COMPACT) != 0;
    while (offset < chunks->file_bytes) {
        struct trace_chunk head;
        if (read_at(chunks, offset, &head, sizeof(head)) < sizeof(head)) {
            chunks->torn = true;
            return true;
        }
        if (!compact && (is_zero(&head) || head.magic == 0)) { /* never begun */
            offset += TRACE_GRAIN;
            continue;
        }
        if (!check_head(chunks, offset, &head, error)) return false;
        if (head.room > chunks->file_bytes - offset) {
            chunks->torn = true;
            return true;
        }
        if (!check_data(chunks, offset, &head, error)) return false;
        if (head.kind == TRACE_END) return take_end(chunks, offset, &head, error);
        if (!add_place(chunks, offset, &head, error)) return false;
        offset += head.room;
    }
    chunks->torn = compact; /* no end */
    return true;
}

static int by_thread(const void *a, const void *b) {
    const struct trace_place *x = a, *y = b;
    if (x->thread != y->thread) return x->thread < y->thread ? -1 : 1;
    return (x->number > y->number) - (x->number < y->number);
}

/* Each thread's chunks are numbered from 0 without a gap. */
static bool check_order(struct trace_chunks *chunks, struct trace_error *error) {
    if (chunks->count > 0) qsort(chunks->places, chunks->count, sizeof(*chunks->places), by_thread);
    for (size_t i = 0; i < chunks->count; i++) {
        const struct trace_place *place = &chunks->places[i];
        bool first = i == 0 || place[-1].thread != place->thread;
        uint32_t expected = first ? 0 : place[-1].number + 1;
        if (place->number != expected)
            return trace_refuse(error, place->offset,
                                "chunk %u of thread %u, where its chunk %u is expected",
                                place->number, place->thread, expected);
    }
    return true;
}

bool trace_chunks_open(struct trace_chunks *chunks, const char *path, struct trace_error *error) {
    struct stat status;
    struct trace_header header;
    memset(chunks, 0, sizeof(*chunks));
    chunks->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (chunks->fd < 0) return trace_refuse(error, 0, "cannot be opened: %s", strerror(errno));
    if (fstat(chunks->fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        trace_refuse(error, 0, "not a regular file");
    } else {
        chunks->file_bytes = (uint64_t)status.st_size;
        if (read_header(chunks, &header, error) && keep_header(chunks, &header, error) &&
            walk(chunks, header.bytes, error) && check_order(chunks, error))
            return true;
    }
    trace_chunks_close(chunks);
    return false;
}

void trace_chunks_close(struct trace_chunks *chunks) {
    free(chunks->places);
    free(chunks->command);
    close(chunks->fd);
}

/* ------------------------------------------------------------------ data --------------------- */

/* The CRC goes over the changing part of the head and the data. */
static uint32_t crc_of(const struct trace_place *place, const uint8_t *data) {
    struct trace_chunk head = {.sealed = 1,
                               .data_bytes = place->data_bytes,
                               .plain_bytes = place->plain_bytes,
                               .events = place->events};
    uint32_t crc = crc32c(0, &head.sealed, sizeof(head) - offsetof(struct trace_chunk, sealed));
    return crc32c(crc, data, place->data_bytes);
}

static bool unpack(const struct trace_place *place, const uint8_t *data, uint8_t *buffer,
                   struct trace_error *error) {
    if (place->sealed && crc_of(place, data) != place->data_crc)
        return trace_refuse(error, place->offset, "a chunk is damaged (its CRC does not fit)");
    if (place->coding == TRACE_PLAIN) return true;
    size_t bytes = ZSTD_decompress(buffer, place->plain_bytes, data, place->data_bytes);
    if (ZSTD_isError(bytes) || bytes != place->plain_bytes)
        return trace_refuse(error, place->offset, "a chunk cannot be unpacked: %s",
                            ZSTD_isError(bytes) ? ZSTD_getErrorName(bytes) : "its length differs");
    return true;
}

bool trace_chunk_load(const struct trace_chunks *chunks, const struct trace_place *place,
                      uint8_t *buffer, struct trace_error *error) {
    uint8_t *data = buffer;
    if (place->coding != TRACE_PLAIN) data = malloc(place->data_bytes + 1u);
    if (data == NULL) return trace_refuse(error, place->offset, "out of memory");
    bool good = false;
    if (read_at(chunks, place->offset + sizeof(struct trace_chunk), data, place->data_bytes) <
        place->data_bytes)
        trace_refuse(error, place->offset, "a chunk cannot be read: %s", strerror(errno));
    else
        good = unpack(place, data, buffer, error);
    if (data != buffer) free(data);
    return good;
}
