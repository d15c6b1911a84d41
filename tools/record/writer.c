/*
 * writer.c - the events of one thread, on their way into its chunk of the file.
 *
 *     struct writer (of the thread alone)              chunk, mapped from the file
 *       at, limit  ─────────────────────────────────▶  | head | event event event ...... |
 *       tick, address, table: what the reader of              ^ data_bytes: complete so far
 *       the chunk will know after the events so far
 *
 * An event is written behind the last one, and then data_bytes is set (release: the kernel keeps
 * the page whatever happens to us, so that a process that is killed leaves every event of which
 * data_bytes knows). No lock, no shared line: threads meet only when they take a chunk (file.c).
 *
 * When a thread has ended, what libc still frees for it goes into a chunk of its own each time.
 * A signal handler that allocates in the middle of an event finds `busy`, and its event is lost and
 * counted.
 */
#include "record/record.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "os/kernel.h"

struct writer {
    uint8_t *at, *limit; /* there is room for one more event while at <= limit */
    uint8_t *data;
    struct trace_chunk *chunk;
    uint64_t tick, address, site;
    uint32_t events;
    uint64_t table[TRACE_TABLE];
    uint64_t sites[TRACE_SITE_TABLE];
};

__thread struct record_thread record_me;
static pthread_key_t end_key;
static bool has_end_key;

uint64_t record_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    uint64_t ns = (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
    return (ns - record_file.start_ns) >> TRACE_TICK_SHIFT;
}

/* ------------------------------------------------------------------ chunks ------------------- */

static void seal(struct writer *writer) {
    if (writer->chunk != NULL) record_file_seal(writer->chunk, writer->events);
    writer->chunk = NULL;
}

/* A new chunk; false if there is none. */
static bool begin_chunk(struct record_thread *me, uint64_t tick) {
    struct writer *writer = me->writer;
    bool small = me->chunks == 0 || me->ended;
    struct trace_chunk *chunk = record_file_take(small ? TRACE_SMALL_CHUNK : TRACE_CHUNK);
    if (chunk == NULL) return false;
    if (!me->numbered) {
        me->number = __atomic_fetch_add(&record_file.end->threads, 1, __ATOMIC_RELAXED);
        me->numbered = 1;
    }
    if (writer->events != 0) {
        __builtin_memset(writer->table, 0, sizeof writer->table);
        __builtin_memset(writer->sites, 0, sizeof writer->sites);
    }
    writer->chunk = chunk;
    writer->data = writer->at = (uint8_t *)(chunk + 1);
    writer->limit = (uint8_t *)chunk + chunk->room - TRACE_EVENT_MOST;
    writer->tick = tick;
    writer->address = writer->site = 0;
    writer->events = 0;
    chunk->thread = me->number;
    chunk->number = me->chunks++;
    chunk->tick = tick;
    chunk->tid = (uint32_t)lu__syscall(SYS_gettid, 0, 0, 0, 0, 0, 0);
    record_file_begin(chunk);
    return true;
}

/* ------------------------------------------------------------------ threads ------------------ */

static void close_writer(struct record_thread *me) {
    seal(me->writer);
    munmap(me->writer, sizeof(struct writer));
    me->writer = NULL;
    me->generation = 0;
}

/* The first event of a thread, or of this process: true if there is a writer now. */
static LU_COLD bool open_writer(struct record_thread *me) {
    bool is_on = record_file_is_on();
    uint32_t generation = __atomic_load_n(&record_page->generation, __ATOMIC_ACQUIRE);
    if (!is_on || generation == 0) return false;
    if (me->generation != 0) me->numbered = me->chunks = me->ended = 0; /* of our parent's file */
    void *memory = mmap(NULL, sizeof(struct writer), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return false;
    me->writer = memory;
    me->generation = generation;
    return true;
}

/* Called as late as libc lets us: the key is set again in each round but the last. */
static void at_thread_end(void *value) {
    struct record_thread *me = &record_me;
    uintptr_t round = (uintptr_t)value;
    if (round < PTHREAD_DESTRUCTOR_ITERATIONS &&
        pthread_setspecific(end_key, (void *)(round + 1)) == 0)
        return;
    int kept = errno;
    record_alloc(TRACE_TAG_THREAD_END, NULL, 0, 0, NULL);
    if (me->writer != NULL && me->generation == record_page->generation) close_writer(me);
    me->ended = 1;
    errno = kept;
}

void record_writer_init(void) {
    has_end_key = pthread_key_create(&end_key, at_thread_end) == 0;
}

/* ------------------------------------------------------------------ events ------------------- */

/* The writer, with room for one event; NULL: nothing is recorded. */
static LU_COLD struct writer *prepare_slow(struct record_thread *me, uint64_t tick) {
    int kept = errno;
    struct writer *writer = NULL;
    if (me->generation != record_page->generation || record_page->generation == 0) {
        if (!open_writer(me)) goto out;
    }
    if (me->writer->chunk != NULL) seal(me->writer);
    if (begin_chunk(me, tick)) {
        writer = me->writer;
    } else {
        munmap(me->writer, sizeof(struct writer));
        me->writer = NULL;
        me->generation = 0;
    }
    if (!me->keyed && has_end_key) {
        me->keyed = 1;
        me->busy = 0; /* this may allocate, and that is an event like others */
        (void)pthread_setspecific(end_key, (void *)1);
        me->busy = 1;
        writer = me->writer;
    }
out:
    errno = kept;
    return writer;
}

LU_INLINE struct writer *event_begin(struct record_thread *me, uint64_t tick) {
    if (LU_UNLIKELY(me->busy)) {
        record_file_lose();
        return NULL;
    }
    me->busy = 1;
    __atomic_signal_fence(__ATOMIC_ACQ_REL);
    struct writer *writer = me->writer;
    uint32_t generation = __atomic_load_n(&record_page->generation, __ATOMIC_RELAXED);
    if (LU_UNLIKELY(generation == 0 || generation != me->generation || writer->chunk == NULL ||
                    writer->at > writer->limit))
        writer = prepare_slow(me, tick);
    if (LU_UNLIKELY(writer == NULL)) me->busy = 0;
    return writer;
}

LU_INLINE void event_end(struct record_thread *me, struct writer *writer, uint8_t *at) {
    writer->at = at;
    writer->events++;
    __atomic_store_n(&writer->chunk->data_bytes, (uint32_t)(at - writer->data), __ATOMIC_RELEASE);
    if (LU_UNLIKELY(me->ended)) {
        int kept = errno;
        close_writer(me);
        errno = kept;
    }
    __atomic_signal_fence(__ATOMIC_ACQ_REL);
    me->busy = 0;
}

LU_INLINE uint8_t *put_number(uint8_t *at, uint64_t number) {
    for (; number >= 128; number >>= 7) *at++ = (uint8_t)(number | 128);
    *at++ = (uint8_t)number;
    return at;
}

/* The tag with its time, without address. */
LU_INLINE uint8_t *put_time(struct writer *writer, uint8_t *at, unsigned tag, uint64_t tick) {
    uint64_t ticks = tick > writer->tick ? tick - writer->tick : 0;
    writer->tick += ticks;
    if (LU_LIKELY(ticks < TRACE_LONG_TIME)) {
        *at++ = (uint8_t)(tag | ticks << TRACE_TIME_SHIFT);
        return at;
    }
    *at++ = (uint8_t)(tag | TRACE_LONG_TIME << TRACE_TIME_SHIFT);
    return put_number(at, ticks - TRACE_LONG_TIME);
}

/* Tag, time, address. */
LU_INLINE uint8_t *put_head(struct writer *writer, unsigned tag, uint64_t tick, const void *block) {
    uint64_t value = trace_rotate((uintptr_t)block);
    unsigned index = trace_table_index(value);
    uint8_t *at;
    if (writer->table[index] == value) {
        tag |= TRACE_KNOWN | index >> 8 << TRACE_ADDRESS_SHIFT;
        at = put_time(writer, writer->at, tag, tick);
        *at++ = (uint8_t)index;
    } else {
        uint64_t far = trace_zigzag(value - writer->address);
        tag |= (unsigned)(far & 3) << TRACE_ADDRESS_SHIFT;
        at = put_time(writer, writer->at, tag, tick);
        at = put_number(at, far >> 2);
        writer->table[index] = value;
    }
    writer->address = value;
    return at;
}

LU_INLINE uint8_t *put_site(struct writer *writer, uint8_t *at, const void *address) {
    if (LU_LIKELY(!record_file.sites)) return at;
    uint64_t site = (uintptr_t)address;
    unsigned index = trace_site_index(site);
    if (writer->sites[index] == site) {
        *at++ = (uint8_t)index;
    } else {
        *at++ = TRACE_SITE_TABLE;
        at = put_number(at, trace_zigzag(site - writer->site));
        writer->sites[index] = site;
    }
    writer->site = site;
    return at;
}

void record_alloc(enum trace_tag tag, const void *block, size_t size, size_t alignment,
                  const void *site) {
    struct record_thread *me = &record_me;
    uint64_t tick = record_now();
    struct writer *writer = event_begin(me, tick);
    if (writer == NULL) return;
    if (LU_UNLIKELY(tag == TRACE_TAG_THREAD_END)) {
        event_end(me, writer, put_time(writer, writer->at, tag, tick));
        return;
    }
    uint8_t *at = put_head(writer, tag, tick, block);
    at = put_number(at, size);
    if (tag == TRACE_TAG_ALIGNED) *at++ = (uint8_t)lu__log2(alignment);
    at = put_site(writer, at, me->site != NULL ? me->site : site);
    me->made++;
    me->last = block;
    event_end(me, writer, at);
}

void record_free(const void *block, const void *site) {
    struct record_thread *me = &record_me;
    uint64_t tick = record_now();
    struct writer *writer = event_begin(me, tick);
    if (writer == NULL) return;
    uint8_t *at = put_head(writer, TRACE_TAG_FREE, tick, block);
    event_end(me, writer, put_site(writer, at, site));
}

void record_resize(const void *old, const void *block, size_t size, uint64_t before,
                   const void *site) {
    struct record_thread *me = &record_me;
    uint64_t after = record_now();
    struct writer *writer = event_begin(me, before);
    if (writer == NULL) return;
    uint8_t *at = put_head(writer, TRACE_TAG_RESIZE, before, old);
    uint64_t from = writer->address, to = trace_rotate((uintptr_t)block);
    at = put_number(at, size);
    uint64_t ticks = after > writer->tick ? after - writer->tick : 0;
    at = put_number(at, ticks);
    writer->tick += ticks;
    at = put_number(at, trace_zigzag(to - from));
    writer->address = to;
    writer->table[trace_table_index(to)] = to;
    at = put_site(writer, at, site);
    me->made++;
    me->last = block;
    event_end(me, writer, at);
}
