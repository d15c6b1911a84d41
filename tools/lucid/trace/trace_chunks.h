/* trace_chunks.h - the chunks of a trace file of our own format: found, checked, unpacked; and the
 * events in one chunk. Below trace_lucid.c (reading) and trace_compact.c (writing). */
#ifndef LUCID_TRACE_CHUNKS_H
#define LUCID_TRACE_CHUNKS_H

#include "record/trace_format.h"
#include "trace/trace.h"

/* Where a chunk is, and what its head says. */
struct trace_place {
    uint64_t offset;
    uint64_t tick;
    uint32_t thread, number, tid;
    uint32_t data_bytes, plain_bytes, events, data_crc;
    uint8_t coding;
    bool sealed;
};

struct trace_chunks {
    int fd;
    uint64_t file_bytes;
    uint32_t flags, tick_shift, pid;
    uint64_t session, real_ns;
    char *command; /* words, each with a 0 behind it */
    uint32_t command_bytes;
    struct trace_place *places; /* of events; by thread, then number */
    size_t count;
    struct trace_end end;
    bool has_end; /* the end was found: compact files that are not torn, and raw ones */
    bool torn;
};

/* Open the file and read every head. False: refused. On success the caller closes. */
bool trace_chunks_open(struct trace_chunks *chunks, const char *path, struct trace_error *error);
void trace_chunks_close(struct trace_chunks *chunks);

/* The events of a chunk, checked and unpacked, in `buffer` of place->plain_bytes. */
bool trace_chunk_load(const struct trace_chunks *chunks, const struct trace_place *place,
                      uint8_t *buffer, struct trace_error *error);

/* ---- trace_decode.c ---- */

/* One event as it is in the chunk. */
struct trace_record {
    enum trace_tag tag;
    uint64_t tick;        /* RESIZE: before the call */
    uint64_t end_tick;    /* RESIZE: after the call  */
    uint64_t address;     /* RESIZE: of the old block */
    uint64_t new_address; /* RESIZE */
    uint64_t size, align, site;
};

struct trace_decoder {
    const uint8_t *start, *at, *end;
    uint64_t tick, most_ticks;
    uint64_t address, site; /* rotated */
    bool has_sites;
    uint64_t table[TRACE_TABLE];
    uint64_t sites[TRACE_SITE_TABLE];
};

enum trace_decoded { TRACE_DECODED, TRACE_DECODED_ALL, TRACE_DECODED_BAD };

void trace_decoder_init(struct trace_decoder *decoder, const struct trace_chunks *chunks,
                        const struct trace_place *place, const uint8_t *events);
enum trace_decoded trace_decode(struct trace_decoder *decoder, struct trace_record *record);

#endif
