/*
 * trace_format.h - the bytes of a trace (docs/TRACE.md), for who writes them and who reads them.
 *
 *     file     | header, command line | chunk | chunk | ... | end |
 *     chunk    | struct trace_chunk | events ................ | room for more (while recording) |
 *
 * Two states of one format. While a program is recorded its file is *raw*: chunks begin at
 * multiples of TRACE_GRAIN, each belongs to one thread, which fills it in a shared mapping, and a
 * place whose chunk was never begun is zero. `lucid record` makes it *compact* afterwards: chunks
 * are compressed, lie without gaps, and the last is of the kind TRACE_END.
 *
 * Little-endian throughout.
 */
#ifndef LUCID_TRACE_FORMAT_H
#define LUCID_TRACE_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#define TRACE_MAGIC "\x89lucidTR"
#define TRACE_CHUNK_MAGIC 0x6843544cu /* "LTCh" */

enum {
    TRACE_VERSION = 1,
    TRACE_BYTE_ORDER = 0x01020304,
    TRACE_GRAIN = 4096,       /* chunks of a raw file begin at multiples of it, and of the page */
    TRACE_SMALL_CHUNK = 8192, /* room of a thread's first chunk                                 */
    TRACE_CHUNK = 262144,     /* room of the others                                             */
    TRACE_LONGEST_CHUNK = 1 << 20,
    TRACE_TICK_SHIFT = 6,      /* a tick is 2^6 ns                                               */
    TRACE_COMMAND_BYTES = 3584 /* of the command line, at most                                   */
};

enum trace_flags {
    TRACE_COMPACT = 1, /* as `lucid record` leaves it                     */
    TRACE_SITES = 2    /* every event has the address that the call returns to */
};

/* What is known at the end of a process: in the last chunk of a compact file, in the header of a
 * raw one, where it changes. */
struct trace_end {
    uint64_t used;    /* raw: bytes of the file that are given out; compact: events           */
    uint64_t lost;    /* events that could not be recorded                                     */
    uint64_t tick;    /* of the exit, or 0                                                     */
    uint32_t threads; /* numbers given out                                                     */
    uint32_t ended;   /* 1: the program reached its exit                                       */
};

struct trace_header {
    char magic[8];
    uint32_t crc; /* of the `bytes` of the header behind this field; raw: of those before `end` */
    uint32_t version;
    uint32_t byte_order;
    uint32_t bytes; /* of the header: the first chunk begins there */
    uint32_t flags;
    uint32_t tick_shift;
    uint32_t pid;
    uint32_t command_bytes; /* at `command`: words, each with a 0 behind it */
    uint64_t session;       /* differs from recording to recording                               */
    uint64_t real_ns;       /* CLOCK_REALTIME at tick 0                                          */
    char command[TRACE_COMMAND_BYTES]; /* compact: as long as needed                             */
    struct trace_end end; /* raw only                                                          */
};

enum trace_chunk_kind { TRACE_EVENTS = 1, TRACE_END = 2 };
enum trace_coding { TRACE_PLAIN = 0, TRACE_ZSTD = 1 };

struct trace_chunk {
    /* Written once, when the chunk is begun. */
    uint32_t magic;
    uint32_t crc; /* of the 32 bytes behind it */
    uint8_t kind, coding;
    uint16_t zero;
    uint32_t thread; /* from 0, in order of their first event                   */
    uint32_t number; /* of this chunk among those of the thread, from 0         */
    uint32_t room;   /* bytes from the beginning of this chunk to the next      */
    uint32_t tid;    /* the kernel's name for the thread                        */
    uint32_t zero2;
    uint64_t tick; /* from which the first event counts */
    /* Changes until the chunk is sealed. */
    uint32_t data_crc; /* of `sealed` and what lies behind it, data included; 0 while open */
    uint32_t sealed;   /* 1: data_crc holds */
    uint32_t data_bytes;
    uint32_t plain_bytes; /* after decompression */
    uint32_t events;      /* 0 while open        */
    uint32_t zero3;
};

/* Kinds of events: bits 0 to 2 of the first byte. 0 is none, so that what was never written is
 * none. */
enum trace_tag {
    TRACE_TAG_MALLOC = 1,
    TRACE_TAG_FREE = 2,
    TRACE_TAG_CALLOC = 3,
    TRACE_TAG_ALIGNED = 4,
    TRACE_TAG_RESIZE = 5,
    TRACE_TAG_THREAD_END = 6
};
enum {
    TRACE_KNOWN = 8,         /* bit 3: the address is in the table, bits 4 and 5 and the next byte
                                 are its index; else bits 4 and 5 are the lowest of its distance  */
    TRACE_ADDRESS_SHIFT = 4, /* bits 4 and 5 */
    TRACE_TIME_SHIFT = 6,    /* bits 6 and 7: ticks since the event before; 3: a number follows */
    TRACE_LONG_TIME = 3,
    TRACE_TABLE = 1024,     /* addresses that were seen last, by hash */
    TRACE_SITE_TABLE = 255, /* call sites that were seen last, by hash */
    TRACE_EVENT_MOST = 64   /* no event is longer */
};

/* Addresses are written rotated, so that the three bits that are 0 in nearly all of them are on
 * top, and neighbours are a small number apart. */
static inline uint64_t trace_rotate(uint64_t address) {
    return address >> 3 | address << 61;
}
static inline uint64_t trace_rotate_back(uint64_t value) {
    return value << 3 | value >> 61;
}
static inline unsigned trace_table_index(uint64_t value) {
    return (unsigned)(value * 0x9e3779b97f4a7c15u >> 54); /* 10 bits: TRACE_TABLE */
}
static inline unsigned trace_site_index(uint64_t site) {
    return (unsigned)((site * 0x9e3779b97f4a7c15u >> 32) % TRACE_SITE_TABLE);
}
/* A difference as a number that is small if the difference is small in either direction. */
static inline uint64_t trace_zigzag(uint64_t difference) {
    return difference << 1 ^ (0 - (difference >> 63));
}
static inline uint64_t trace_unzigzag(uint64_t number) {
    return number >> 1 ^ (0 - (number & 1));
}

_Static_assert(sizeof(struct trace_chunk) == 64, "docs/TRACE.md has this layout");
_Static_assert(offsetof(struct trace_chunk, data_crc) == 40, "docs/TRACE.md has this layout");
_Static_assert(offsetof(struct trace_header, command) == 56, "docs/TRACE.md has this layout");
_Static_assert(sizeof(struct trace_end) == 32, "docs/TRACE.md has this layout");

/* CRC-32C (Castagnoli), as in iSCSI and ext4, of what `crc` is of, followed by these bytes; begin
 * with 0. (crc.c) */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t count);

#endif
