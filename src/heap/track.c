/*
 * track.c - tracked spans: free blocks that stand in a bitmap instead of on a list.
 *
 * A live block whose first word was copied from a free one, or forged, looks free, and only a
 * search tells that it is not (verify.c). On a list of thousands that takes long, and a program can
 * make it happen with every free. So a search that was long and found nothing makes the span
 * tracked:
 *
 *     *span->list -> block -> block ...          what was freed since, and a few for malloc
 *     bits            0 1 1 0 0 1 0 1 1 1 ...    all other free blocks, by number
 *
 * What is in the bitmap counts as unlisted (span->unlisted), like blocks on purged pages. A refill
 * brings REFILL of them back. When a search finds the list longer than LU_TRACK_STEPS, all of it
 * goes into the bitmap. A block gets on the list by a free, or by a refill that follows as many
 * mallocs: so however long a list was, walking it costs each of these calls a few steps.
 *
 * Blocks in the bitmap keep their links, so that they look free when they are freed again; what was
 * written there meanwhile is found when they come back, as on a list.
 *
 * Bits are changed by the span's owner only, or under the lock of its lu_heap. Who has a block of a
 * span that is another's can ask, but not change; it leaves TRACK_WANTED in span->track, and the
 * owner begins at its next refill of that span, or look at the clock. Other threads read bitmaps
 * while these pass from span to span: `life` tells.
 *
 * Bitmaps are never unmapped. track_lock guards the free ones; a leaf but for lu__span_lock, taken
 * by threads that are marked as in a slow path.
 */
#include "heap/track.h"

#include <string.h>

#include "base/violation.h"
#include "heap/ops.h"

#define TRACK_WANTED UINT16_MAX
#define LEAST 128u /* carved blocks: what has fewer has no long list */
#define REFILL 32u
#define WORDS (LU_SLICE / 8 / 64)

struct track {
    const struct span *span; /* atomic; NULL: free                           */
    uint32_t life;           /* atomic; grows with each span that it was for */
    uint32_t count;          /* bits that are set                            */
    uint32_t from;           /* no word before it has one                    */
    uint16_t number;         /* for span->track                              */
    struct track *next_free;
    uint64_t bits[WORDS]; /* atomic */
};

#define PER_SLICE (LU_SLICE / sizeof(struct track))
#define SLICES (TRACK_WANTED / PER_SLICE)

static struct lu__lock track_lock = LU_LOCK_INIT(LU_RANK_CHUNK);
static struct track *slices[SLICES]; /* track number n, from 1: slices[(n-1) / PER_SLICE] + ... */
static uint32_t slice_count;
static struct track *free_tracks;

static struct track *track_of(const struct span *span) {
    uint16_t number = __atomic_load_n(&span->track, __ATOMIC_ACQUIRE);
    if (number == 0 || number == TRACK_WANTED) return NULL;
    return slices[(number - 1u) / PER_SLICE] + (number - 1u) % PER_SLICE;
}

/* One more slice of them; locked. */
static void extend(void) {
    bool zero;
    if (slice_count == SLICES) return;
    struct span *run = lu__run_alloc(1, 1, LU_KIND_META, &zero);
    if (run == NULL) return;
    struct track *tracks = (struct track *)(void *)lu__span_start(run);
    if (!zero) memset(tracks, 0, LU_SLICE);
    for (size_t i = 0; i < PER_SLICE; i++) {
        tracks[i].number = (uint16_t)(slice_count * PER_SLICE + i + 1);
        tracks[i].next_free = i + 1 < PER_SLICE ? &tracks[i + 1] : NULL;
    }
    slices[slice_count] = tracks;
    LU_SET(slice_count, slice_count + 1);
    LU_SET(free_tracks, tracks);
}

/* Make the span a tracked one with nothing in the bitmap; NULL, and an ordinary one: no memory. */
static struct track *begin(struct span *span) {
    lu__lock_acquire(&track_lock);
    if (free_tracks == NULL) extend();
    struct track *track = free_tracks;
    if (track != NULL) LU_SET(free_tracks, track->next_free);
    lu__lock_release(&track_lock);
    if (track != NULL) {
        track->count = 0;
        track->from = WORDS;
        __atomic_store_n(&track->life, track->life + 1, __ATOMIC_RELAXED);
        __atomic_store_n(&track->span, span, __ATOMIC_RELEASE);
    }
    __atomic_store_n(&span->track, track != NULL ? track->number : 0, __ATOMIC_RELEASE);
    return track;
}

void lu__track_drop(struct span *span) {
    struct track *track = track_of(span);
    __atomic_store_n(&span->track, 0, __ATOMIC_RELAXED);
    if (track == NULL) return;
    __atomic_store_n(&track->span, NULL, __ATOMIC_RELAXED);
    for (size_t i = track->from; track->count > 0 && i < WORDS; i++) {
        __atomic_store_n(&track->bits[i], 0, __ATOMIC_RELEASE);
    }
    lu__lock_acquire(&track_lock);
    track->next_free = free_tracks;
    LU_SET(free_tracks, track);
    lu__lock_release(&track_lock);
}

void lu__track_fork_child(void) {
    (void)lu__lock_fork_child(&track_lock);
}

/* ---------------------------------------------------------------- questions */

/* The number of `block` in the span of one slice, of which it is a part; UINT32_MAX: it is none. */
static uint32_t number_of(const struct span *span, uintptr_t start, uintptr_t block) {
    uintptr_t offset = block - start;
    if (offset >= __atomic_load_n(&span->limit, __ATOMIC_RELAXED)) return UINT32_MAX;
    uint32_t number = (uint32_t)((uint64_t)offset * span->inverse >> 32); /* see span/class.c */
    return number * lu__class_size[span->class_id] == offset ? number : UINT32_MAX;
}

bool lu__track_has(const struct span *span, uintptr_t block) {
    const struct track *track = track_of(span);
    if (LU_LIKELY(track == NULL)) return false;
    uint32_t life = __atomic_load_n(&track->life, __ATOMIC_RELAXED);
    if (__atomic_load_n(&track->span, __ATOMIC_ACQUIRE) != span) return false;
    uint32_t number = number_of(span, (uintptr_t)lu__span_start(span), block);
    if (number == UINT32_MAX) return false;
    uint64_t word = __atomic_load_n(&track->bits[number / 64], __ATOMIC_ACQUIRE);
    if ((word >> number % 64 & 1) == 0) return false;
    /* Was it a bit of this span? Who sets one for another has set these before. */
    return __atomic_load_n(&track->span, __ATOMIC_RELAXED) == span &&
           __atomic_load_n(&track->life, __ATOMIC_RELAXED) == life;
}

uint32_t lu__track_count(const struct span *span) {
    const struct track *track = track_of(span);
    return track != NULL ? track->count : 0;
}

void lu__track_mark(const struct span *span, uint8_t *free_bits) {
    const struct track *track = track_of(span);
    if (track == NULL) return;
    for (uint32_t i = track->from * 8; i <= lu__span_carved(span) / 8 && i < WORDS * 8; i++) {
        free_bits[i] |= (uint8_t)(track->bits[i / 8] >> i % 8 * 8);
    }
}

bool lu__track_remake(struct span *span, const uint8_t *free_bits) {
    struct track *track = track_of(span);
    if (track == NULL) return false;
    track->count = track->from = 0;
    for (size_t i = 0; i < WORDS; i++) {
        uint64_t word;
        memcpy(&word, free_bits + i * 8, sizeof word); /* bytes in the order of their bits */
        __atomic_store_n(&track->bits[i], word, __ATOMIC_RELEASE);
        track->count += (uint32_t)__builtin_popcountl(word);
    }
    return true;
}

/* ---------------------------------------------------------------- from list to bitmap and back */

/* The block is on the list, and in the bitmap as well: it was freed twice, and its word written to
 * in between, so that it did not look free. As of a damaged list, the rest is lost. */
static LU_COLD void freed_twice(struct span *span, uintptr_t block) {
    lu__violation(LU_DOUBLE_FREE, "free", (void *)block, (void *)block,
                  lu__class_size[span->class_id]);
    if (span->state != LU_SPAN_CURRENT) span->needed++;
}

/* Put the blocks of the list into the bitmap. */
static void fold(struct heap *heap, struct span *span, struct track *track) {
    uintptr_t start = (uintptr_t)lu__span_start(span), block = *span->list, last = 0;
    uint32_t folded = 0;
    while (block != LU_LIST_END) {
        uint32_t number = number_of(span, start, block);
        if (number == UINT32_MAX) { /* a forged link, that of the last one */
            if (last != 0) (void)lu__list_broken(span->key, last);
            break;
        }
        uint64_t *word = &track->bits[number / 64], bit = (uint64_t)1 << number % 64;
        uintptr_t next = lu__list_step(span->key, block);
        if (*word & bit) {
            freed_twice(span, block);
            break;
        }
        __atomic_store_n(word, *word | bit, __ATOMIC_RELEASE);
        track->from = LU_MIN(track->from, number / 64);
        folded++;
        last = block;
        block = next;
    }
    *span->list = LU_LIST_END;
    track->count += folded;
    span->unlisted = (uint16_t)(span->unlisted + folded);
    if (span->state == LU_SPAN_CURRENT) lu__sampler_counted(heap, -(int32_t)folded);
}

/* Put up to `most` blocks, the first, back on the empty list, which then has them in order. Returns
 * how many. */
static uint32_t unfold(struct span *span, struct track *track, uint32_t most) {
    uintptr_t start = (uintptr_t)lu__span_start(span), last = 0;
    uint32_t taken = 0, size = lu__class_size[span->class_id];
    while (taken < most && track->count > 0) {
        uint64_t word = track->bits[track->from];
        if (word == 0) {
            track->from++;
            continue;
        }
        uint32_t number = track->from * 64 + (uint32_t)__builtin_ctzl(word);
        uintptr_t block = start + (size_t)number * size;
        if (lu__link_next(span->key, block) == 0) (void)lu__list_broken(span->key, block);
        *(uintptr_t *)block = (LU_LIST_END ^ block) ^ span->key;
        if (last == 0) {
            *span->list = block;
        } else {
            *(uintptr_t *)last = (block ^ last) ^ span->key;
        }
        last = block;
        __atomic_store_n(&track->bits[track->from], word & (word - 1), __ATOMIC_RELEASE);
        track->count--;
        taken++;
    }
    span->unlisted = (uint16_t)(span->unlisted - taken);
    return taken;
}

bool lu__track_refill(struct heap *heap, struct span *span) {
    struct track *track = track_of(span);
    if (track == NULL && (track = begin(span)) == NULL) return *span->list != LU_LIST_END;
    fold(heap, span, track);
    uint32_t taken = unfold(span, track, REFILL);
    if (span->state == LU_SPAN_CURRENT) lu__sampler_counted(heap, (int32_t)taken);
    return *span->list != LU_LIST_END;
}

void lu__track_end(struct span *span) {
    struct track *track = track_of(span);
    if (track != NULL && track->count > 0) {
        uintptr_t rest = *span->list, last = 0;
        (void)unfold(span, track, UINT32_MAX);
        for (uintptr_t b = *span->list; rest != LU_LIST_END && b != LU_LIST_END;) {
            last = b;
            b = lu__list_step(span->key, b);
        }
        if (last != 0) *(uintptr_t *)last = (rest ^ last) ^ span->key;
    }
    lu__track_drop(span);
}

/* ---------------------------------------------------------------- false alarms */

/* By the owner, or under the lock of its lu_heap. */
static void shorten(struct heap *owner, struct span *span) {
    /* Blocks that others have freed meanwhile lie in a chain that is searched as well. */
    (void)lu__remote_take_in(owner);
    if (span->owner == owner && *span->list != LU_LIST_END) (void)lu__track_refill(owner, span);
}

void lu__track_alarm(struct span *span, uint32_t steps) {
    if (steps <= LU_TRACK_STEPS || span->slices != 1 || lu__span_carved(span) <= LEAST) return;
    struct heap *owner = __atomic_load_n(&span->owner, __ATOMIC_RELAXED);
    if (owner == NULL) return; /* another thread ends its heap */
    bool of_user = __atomic_load_n(&owner->kind, __ATOMIC_RELAXED) == LU_HEAP_OF_USER;
    if (!of_user && owner != lu__thread_heap()) {
        uint16_t none = 0;
        (void)__atomic_compare_exchange_n(&span->track, &none, TRACK_WANTED, false,
                                          __ATOMIC_RELAXED, __ATOMIC_RELAXED);
        return;
    }
    struct heap *self = lu__thread_enter();
    if (self == NULL) return; /* a signal handler */
    if (!of_user) {
        shorten(owner, span);
    } else if (lu__user_lock(owner)) {
        shorten(owner, span);
        lu__user_unlock(owner);
    }
    lu__thread_leave(self);
}
