/*
 * trace_lucid.c - the events of all threads of a trace in one order.
 *
 *     cursor of thread 0   | chunk | event event ...        each in the order of its thread
 *     cursor of thread 1   | chunk | event event ...
 *            \   heap: the cursor with the least tick on top
 *             ▼
 *     step: one event, by the map of live addresses ──▶ block numbers ──▶ at most two trace_events
 *
 * Ticks put the events into order, and for almost all that is all. What ticks cannot tell (two
 * events in one tick, clocks of processors that differ) the addresses do (docs/TRACE.md, "Order"):
 *
 *     an allocation at an address that is live waits until that is freed, for at most PATIENCE
 *     a free of an address that is not live waits until it is allocated, within the same tick
 *
 * A cursor that waits is in `waiting` instead of the heap. If nobody comes, the event happens
 * anyway: a FREE that was not recorded is put in before the allocation, or the free is counted as
 * of an unknown block. So each step either uses up an event or makes one cursor wait that did not,
 * and the merge ends on any input.
 *
 * A thread's chunk is in memory only between its first and its last event.
 */
#include "trace/trace_reader.h"

#include "trace/trace_chunks.h"
#include "trace/trace_map.h"

#include <stdlib.h>
#include <string.h>

enum { PATIENCE = 160 /* ticks: 10 us, far more than clocks of one machine differ by */ };

enum phase { UNREAD, EVENT, RESIZE_END };

struct cursor {
    uint64_t tick; /* of what comes next */
    const struct trace_place *place, *places_end;
    uint8_t *events; /* of the chunk; NULL: not loaded */
    struct trace_decoder *decoder;
    struct trace_record record;
    enum phase phase;
    bool had_old;
    uint64_t old;      /* RESIZE_END: the block that is gone */
    uint64_t awaited;  /* while it waits: the address        */
    uint64_t patience; /* and until which tick               */
    uint32_t thread;   /* as the reader numbers them         */
};

struct lucid_trace {
    struct trace trace; /* first */
    struct trace_chunks chunks;
    struct cursor *cursors;
    size_t cursor_count;
    struct cursor **heap, **waiting;
    size_t heap_count, waiting_count;
    struct trace_map live;
    uint64_t next_block;
    uint32_t next_thread;
    struct trace_event queue[2];
    size_t queued, given;
};

static const uint32_t no_thread = UINT32_MAX;

/* ------------------------------------------------------------------ heap --------------------- */

static bool is_before(const struct cursor *a, const struct cursor *b) {
    return a->tick != b->tick ? a->tick < b->tick : a < b;
}

static void heap_push(struct lucid_trace *lucid, struct cursor *cursor) {
    size_t i = lucid->heap_count++;
    for (; i > 0 && is_before(cursor, lucid->heap[(i - 1) / 2]); i = (i - 1) / 2)
        lucid->heap[i] = lucid->heap[(i - 1) / 2];
    lucid->heap[i] = cursor;
}

static struct cursor *heap_pop(struct lucid_trace *lucid) {
    struct cursor *top = lucid->heap[0], *last = lucid->heap[--lucid->heap_count];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < lucid->heap_count; i = child) {
        if (child + 1 < lucid->heap_count && is_before(lucid->heap[child + 1], lucid->heap[child]))
            child++;
        if (!is_before(lucid->heap[child], last)) break;
        lucid->heap[i] = lucid->heap[child];
    }
    lucid->heap[i] = last;
    return top;
}

/* ------------------------------------------------------------------ cursors ------------------ */

static void unload(struct cursor *cursor) {
    free(cursor->events);
    free(cursor->decoder);
    cursor->events = NULL;
    cursor->decoder = NULL;
}

static bool load(struct lucid_trace *lucid, struct cursor *cursor) {
    const struct trace_place *place = cursor->place;
    if (cursor->decoder == NULL) cursor->decoder = malloc(sizeof(*cursor->decoder));
    free(cursor->events);
    cursor->events = malloc(place->plain_bytes + 1u);
    if (cursor->decoder == NULL || cursor->events == NULL ||
        !trace_chunk_load(&lucid->chunks, place, cursor->events, NULL))
        return false;
    trace_decoder_init(cursor->decoder, &lucid->chunks, place, cursor->events);
    return true;
}

/* Read the cursor's next event and put it into the heap; at the end of the thread it is dropped. */
static void advance(struct lucid_trace *lucid, struct cursor *cursor) {
    for (;;) {
        if (cursor->events == NULL && !load(lucid, cursor)) break;
        enum trace_decoded decoded = trace_decode(cursor->decoder, &cursor->record);
        if (decoded == TRACE_DECODED) {
            cursor->phase = EVENT;
            cursor->tick = cursor->record.tick;
            heap_push(lucid, cursor);
            return;
        }
        if (decoded == TRACE_DECODED_BAD) break;
        if (++cursor->place == cursor->places_end) {
            unload(cursor);
            return;
        }
        free(cursor->events);
        cursor->events = NULL;
    }
    unload(cursor);
    lucid->trace.failed = true;
}

/* ------------------------------------------------------------------ waiting ------------------ */

/* True if the cursor now waits for something to happen at the address: there are others that may
 * do it within so many ticks. */
static bool wait_for(struct lucid_trace *lucid, struct cursor *cursor, uint64_t address,
                     uint64_t ticks) {
    uint64_t until = cursor->tick + ticks;
    if (lucid->heap_count == 0 || lucid->heap[0]->tick > until) return false;
    cursor->awaited = address;
    cursor->patience = until;
    lucid->waiting[lucid->waiting_count++] = cursor;
    return true;
}

static void stop_waiting(struct lucid_trace *lucid, size_t i) {
    memmove(&lucid->waiting[i], &lucid->waiting[i + 1],
            (--lucid->waiting_count - i) * sizeof(lucid->waiting[0]));
}

/* Something happened at the address at that tick. */
static void wake(struct lucid_trace *lucid, uint64_t address, uint64_t tick) {
    for (size_t i = 0; i < lucid->waiting_count;) {
        struct cursor *cursor = lucid->waiting[i];
        if (cursor->awaited != address) {
            i++;
            continue;
        }
        stop_waiting(lucid, i);
        lucid->trace.repaired += tick > cursor->tick;
        heap_push(lucid, cursor);
    }
}

/* The cursor that comes next; `*forced`: it has waited in vain. */
static struct cursor *choose(struct lucid_trace *lucid, bool *forced) {
    size_t first = 0;
    *forced = false;
    for (size_t i = 1; i < lucid->waiting_count; i++)
        if (lucid->waiting[i]->patience < lucid->waiting[first]->patience) first = i;
    if (lucid->waiting_count > 0 &&
        (lucid->heap_count == 0 || lucid->heap[0]->tick > lucid->waiting[first]->patience)) {
        struct cursor *cursor = lucid->waiting[first];
        stop_waiting(lucid, first);
        *forced = true;
        return cursor;
    }
    return lucid->heap_count > 0 ? heap_pop(lucid) : NULL;
}

/* ------------------------------------------------------------------ events ------------------- */

static struct trace_event *emit(struct lucid_trace *lucid, struct cursor *cursor,
                                enum trace_kind kind, uint64_t block) {
    const struct trace_record *record = &cursor->record;
    struct trace_event *event = &lucid->queue[lucid->queued++];
    if (cursor->thread == no_thread) cursor->thread = lucid->next_thread++;
    *event = (struct trace_event){.kind = kind,
                                  .thread = cursor->thread,
                                  .time_ns = cursor->tick << lucid->chunks.tick_shift,
                                  .block = block,
                                  .site = record->site};
    return event;
}

/* A block appears at the address. False: the cursor waits until the one there is freed. */
static bool appear(struct lucid_trace *lucid, struct cursor *cursor, uint64_t address,
                   bool forced) {
    const struct trace_record *record = &cursor->record;
    uint64_t there;
    if (trace_map_get(&lucid->live, address, &there)) {
        if (!forced && wait_for(lucid, cursor, address, PATIENCE)) return false;
        lucid->trace.double_allocs++;
        emit(lucid, cursor, TRACE_FREE, there)->site = 0;
    }
    uint64_t block = lucid->next_block++;
    if (!trace_map_put(&lucid->live, address, block)) lucid->trace.failed = true;
    bool resized = record->tag == TRACE_TAG_RESIZE && cursor->had_old;
    struct trace_event *event = emit(lucid, cursor, resized ? TRACE_RESIZE : TRACE_ALLOC, block);
    if (resized) event->old = cursor->old;
    event->zeroed = record->tag == TRACE_TAG_CALLOC;
    event->size = record->size;
    event->align = record->align;
    wake(lucid, address, cursor->tick);
    return true;
}

/* The block at the address goes. False: the cursor waits until there is one. */
static bool vanish(struct lucid_trace *lucid, struct cursor *cursor, bool forced, bool *known,
                   uint64_t *block) {
    uint64_t address = cursor->record.address;
    *known = trace_map_take(&lucid->live, address, block);
    if (!*known) {
        if (!forced && wait_for(lucid, cursor, address, 0)) return false;
        lucid->trace.unknown_frees++;
    } else {
        wake(lucid, address, cursor->tick);
    }
    return true;
}

static void step(struct lucid_trace *lucid, struct cursor *cursor, bool forced) {
    const struct trace_record *record = &cursor->record;
    bool known;
    uint64_t block;
    if (cursor->phase == UNREAD) {
        advance(lucid, cursor);
        return;
    }
    if (cursor->phase == RESIZE_END) {
        if (appear(lucid, cursor, record->new_address, forced)) advance(lucid, cursor);
        return;
    }
    switch (record->tag) {
    case TRACE_TAG_FREE:
        if (!vanish(lucid, cursor, forced, &known, &block)) return;
        if (known) emit(lucid, cursor, TRACE_FREE, block);
        advance(lucid, cursor);
        return;
    case TRACE_TAG_RESIZE:
        if (!vanish(lucid, cursor, forced, &cursor->had_old, &cursor->old)) return;
        cursor->phase = RESIZE_END;
        cursor->tick = record->end_tick;
        heap_push(lucid, cursor);
        return;
    case TRACE_TAG_THREAD_END:
        emit(lucid, cursor, TRACE_THREAD_END, 0);
        advance(lucid, cursor);
        return;
    default:
        if (appear(lucid, cursor, record->address, forced)) advance(lucid, cursor);
    }
}

static bool next(struct trace *trace, struct trace_event *event) {
    struct lucid_trace *lucid = (struct lucid_trace *)trace;
    while (lucid->given == lucid->queued) {
        bool forced;
        lucid->given = lucid->queued = 0;
        struct cursor *cursor = choose(lucid, &forced);
        if (cursor == NULL || trace->failed) return false;
        step(lucid, cursor, forced);
    }
    *event = lucid->queue[lucid->given++];
    return true;
}

/* ------------------------------------------------------------------ opening ------------------ */

static void rewind_trace(struct trace *trace) {
    struct lucid_trace *lucid = (struct lucid_trace *)trace;
    const struct trace_place *place = lucid->chunks.places;
    const struct trace_place *end = lucid->chunks.count > 0 ? place + lucid->chunks.count : place;
    lucid->heap_count = lucid->waiting_count = lucid->queued = lucid->given = 0;
    lucid->next_block = lucid->next_thread = 0;
    trace_map_clear(&lucid->live);
    for (size_t i = 0; i < lucid->cursor_count; i++) {
        struct cursor *cursor = &lucid->cursors[i];
        unload(cursor);
        *cursor = (struct cursor){.tick = place->tick, .place = place, .thread = no_thread};
        uint32_t thread = place->thread;
        while (place < end && place->thread == thread) place++;
        cursor->places_end = place;
        heap_push(lucid, cursor);
    }
}

static void close_trace(struct trace *trace) {
    struct lucid_trace *lucid = (struct lucid_trace *)trace;
    for (size_t i = 0; lucid->cursors != NULL && i < lucid->cursor_count; i++)
        unload(&lucid->cursors[i]);
    free(lucid->cursors);
    free(lucid->heap);
    free(lucid->waiting);
    trace_map_fini(&lucid->live);
    trace_chunks_close(&lucid->chunks);
    free(lucid);
}

/* Every chunk can be read to its end, and has as many events as it says. */
static bool check_chunk(const struct lucid_trace *lucid, const struct trace_place *place,
                        struct trace_decoder *decoder, uint8_t *buffer, struct trace_error *error) {
    struct trace_record record;
    enum trace_decoded decoded;
    uint32_t events = 0;
    if (!trace_chunk_load(&lucid->chunks, place, buffer, error)) return false;
    trace_decoder_init(decoder, &lucid->chunks, place, buffer);
    while ((decoded = trace_decode(decoder, &record)) == TRACE_DECODED) events++;
    if (decoded == TRACE_DECODED_BAD)
        return trace_refuse(error, place->offset, "byte %zu of this chunk's events is no event",
                            (size_t)(decoder->at - decoder->start));
    if (place->sealed && events != place->events)
        return trace_refuse(error, place->offset, "a chunk of %u events that should have %u",
                            events, place->events);
    return true;
}

static bool check_chunks(struct lucid_trace *lucid, struct trace_error *error) {
    struct trace_decoder *decoder = malloc(sizeof(*decoder));
    uint8_t *buffer = malloc(TRACE_LONGEST_CHUNK);
    bool good = decoder != NULL && buffer != NULL;
    if (!good) trace_refuse(error, 0, "out of memory");
    for (size_t i = 0; good && i < lucid->chunks.count; i++)
        good = check_chunk(lucid, &lucid->chunks.places[i], decoder, buffer, error);
    free(decoder);
    free(buffer);
    return good;
}

static bool make_cursors(struct lucid_trace *lucid, struct trace_error *error) {
    for (size_t i = 0; i < lucid->chunks.count; i++) {
        const struct trace_place *place = &lucid->chunks.places[i];
        lucid->cursor_count += i == 0 || place[-1].thread != place->thread;
    }
    size_t count = lucid->cursor_count + 1;
    lucid->cursors = calloc(count, sizeof(*lucid->cursors));
    lucid->heap = calloc(count, sizeof(*lucid->heap));
    lucid->waiting = calloc(count, sizeof(*lucid->waiting));
    if (lucid->cursors == NULL || lucid->heap == NULL || lucid->waiting == NULL)
        return trace_refuse(error, 0, "out of memory");
    return true;
}

static void fill_info(struct lucid_trace *lucid) {
    struct trace_info *info = &lucid->trace.info;
    const struct trace_chunks *chunks = &lucid->chunks;
    size_t bytes = chunks->command_bytes;
    info->format = "lucid 1";
    if (bytes > sizeof(info->command)) bytes = sizeof(info->command);
    for (size_t i = 0; i + 1 < bytes; i++)
        info->command[i] = chunks->command[i] != '\0' ? chunks->command[i] : ' ';
    info->chunks = chunks->count;
    info->torn = chunks->torn;
    info->ended = chunks->has_end && chunks->end.ended == 1;
    info->lost = chunks->has_end ? chunks->end.lost : 0;
}

struct trace *trace_lucid_open(const char *path, struct trace_error *error) {
    static const struct trace_ops ops = {next, rewind_trace, close_trace};
    struct lucid_trace *lucid = calloc(1, sizeof(*lucid));
    if (lucid == NULL) return trace_refuse(error, 0, "out of memory");
    lucid->trace.ops = &ops;
    if (!trace_chunks_open(&lucid->chunks, path, error)) {
        free(lucid);
        return NULL;
    }
    if (!make_cursors(lucid, error) || !check_chunks(lucid, error)) {
        close_trace(&lucid->trace);
        return NULL;
    }
    fill_info(lucid);
    rewind_trace(&lucid->trace);
    return &lucid->trace;
}
