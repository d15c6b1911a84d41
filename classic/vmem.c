/*
 * vmem.c - an arena of address space in quanta of 4 KiB, after Solaris' vmem.
 *
 * Source: J. Bonwick and J. Adams, "Magazines and Vmem: Extending the Slab Allocator to Many CPUs
 * and Arbitrary Resources", USENIX 2001, section 4.
 *
 * The area below the break is tiled by *segments*, each with a *boundary tag*. The tags lie in
 * memory of their own: an arena may manage what is no memory, and so never touches it.
 *
 *     area    | slab | large        | free  | slab | free               | break
 *     tags    [ tag ]-[ tag ]--------[ tag ]-[ tag ]-[ tag ]                   by address
 *
 *     lists   0: 1 quantum   1: 2, 3   2: 4 … 7   3: 8 … 15  …  free segments; `filled`: a bit each
 *
 * Instant fit: a request for n quanta looks at the lists of 2^k >= n and up. *Any* segment there is
 * large enough, so the first of the lowest list that is not empty will do, found with one look at
 * the bitmap: constant time, and in practice close to best fit. Only if there is none does a search
 * look at some segments of the list below, whose sizes may do or not. Then the arena *imports*: the
 * break rises, and what it gives merges with a free segment at the end.
 *
 * A freed segment merges with its free neighbours at once, which the tags show. So no two free
 * segments are neighbours, and the request after an import never fails for want of merging.
 *
 * From an address to the segment Bonwick goes by a hash table. Here it is a map from quantum to tag
 * in two levels, for free(3) may come with any pointer and asks without a lock. (Quantum caches,
 * slab caches of small multiples of the quantum in front of the arena, are left out: the size
 * caches up to 16 KiB already do that work.)
 *
 * Bounds: rounding to quanta loses less than 1 quantum in each large block, a fifth of one just
 * above 16 KiB. Outside, power-of-two lists keep no promise better than first fit's.
 *
 * Everything but the map's reading is under vmem->lock. Order: slab locks, vmem->lock, area.lock.
 */
#include "classic/vmem.h"

#define STEP (64 * LU_KIB)
#define LOOKS 32 /* at the list whose segments may be too small */
#define CHUNK_BYTES (64 * LU_KIB)
#define LEAF_BYTES (sizeof(void *) << LU_VMEM_LEAF_SHIFT)
#define ENOUGH_TAGS 3u /* more than one operation takes: two cuts, and an import */

struct lu__vmem_chunk {
    struct lu__vmem_chunk *next;
    struct lu__seg tags[];
};

/* ---------------------------------------------------------------- tags */

static void put_tag(struct lu__vmem *vmem, struct lu__seg *tag) {
    tag->below = vmem->spare;
    vmem->spare = tag;
    vmem->spares++;
}

static bool have_tags(struct lu__vmem *vmem) {
    if (vmem->spares >= ENOUGH_TAGS) return true;
    struct lu__vmem_chunk *chunk = lu__classic_meta_alloc(CHUNK_BYTES);
    if (chunk == NULL) return false;
    chunk->next = vmem->chunks;
    vmem->chunks = chunk;
    size_t count = (CHUNK_BYTES - sizeof *chunk) / sizeof chunk->tags[0];
    while (count > 0) put_tag(vmem, &chunk->tags[--count]);
    return true;
}

/* A new tag in address order after `before`, which may be NULL. There are spare ones. */
static struct lu__seg *insert_after(struct lu__vmem *vmem, struct lu__seg *before, uintptr_t start,
                                    size_t bytes) {
    struct lu__seg *tag = vmem->spare, *next = before != NULL ? before->next : vmem->first;
    vmem->spare = tag->below;
    vmem->spares--;
    *tag = (struct lu__seg){.next = next, .prev = before, .start = start, .bytes = bytes};
    if (next != NULL) {
        next->prev = tag;
    } else {
        vmem->last = tag;
    }
    if (before != NULL) {
        before->next = tag;
    } else {
        vmem->first = tag;
    }
    return tag;
}

static void remove_tag(struct lu__vmem *vmem, struct lu__seg *tag) {
    if (tag->next != NULL) {
        tag->next->prev = tag->prev;
    } else {
        vmem->last = tag->prev;
    }
    if (tag->prev != NULL) {
        tag->prev->next = tag->next;
    } else {
        vmem->first = tag->next;
    }
    put_tag(vmem, tag);
}

/* ---------------------------------------------------------------- free segments */

static unsigned list_of(size_t bytes) {
    return lu__log2(bytes / LU_VMEM_QUANTUM);
}

static void push_free(struct lu__vmem *vmem, struct lu__seg *tag) {
    unsigned list = list_of(tag->bytes);
    tag->kind = LU_VMEM_FREE;
    tag->above = NULL;
    tag->below = vmem->lists[list];
    if (tag->below != NULL) tag->below->above = tag;
    vmem->lists[list] = tag;
    vmem->filled |= (uint64_t)1 << list;
}

static void take_free(struct lu__vmem *vmem, struct lu__seg *tag) {
    unsigned list = list_of(tag->bytes);
    if (tag->below != NULL) tag->below->above = tag->above;
    if (tag->above != NULL) {
        tag->above->below = tag->below;
    } else {
        vmem->lists[list] = tag->below;
        if (tag->below == NULL) vmem->filled &= ~((uint64_t)1 << list);
    }
}

/* A free segment of at least `bytes`; NULL: none was found. */
static struct lu__seg *find_free(struct lu__vmem *vmem, size_t bytes) {
    unsigned below = list_of(bytes), looks = 0;
    unsigned enough = below + !lu__is_pow2(bytes);
    uint64_t ready = vmem->filled & (~(uint64_t)0 << enough);
    struct lu__seg *tag;
    if (ready != 0) {
        tag = vmem->lists[__builtin_ctzl(ready)];
        looks = 1;
    } else {
        tag = vmem->lists[below];
        while (tag != NULL && ++looks <= LOOKS && tag->bytes < bytes) tag = tag->below;
        if (looks > LOOKS) tag = NULL;
    }
    LU_COUNT(vmem->heap, searches, looks);
    return tag;
}

/* ---------------------------------------------------------------- the map */

/* The leaves of the map that [base, base + end) needs. */
static bool have_leaves(struct lu__vmem *vmem, size_t end) {
    for (size_t i = 0; i <= (end - 1) / LU_VMEM_QUANTUM >> LU_VMEM_LEAF_SHIFT; i++) {
        if (i >= vmem->leaf_count) return false;
        if (vmem->leaves[i] != NULL) continue;
        struct lu__seg **leaf = lu__classic_meta_alloc(LEAF_BYTES);
        if (leaf == NULL) return false;
        __atomic_store_n(&vmem->leaves[i], leaf, __ATOMIC_RELEASE);
    }
    return true;
}

/* The quanta by which a segment can be found show `what`. */
static void map(struct lu__vmem *vmem, const struct lu__seg *tag, struct lu__seg *what) {
    size_t quantum = (tag->start - vmem->heap->area.base) / LU_VMEM_QUANTUM;
    size_t count = tag->kind == LU_VMEM_SLAB ? tag->bytes / LU_VMEM_QUANTUM : 1;
    for (size_t i = quantum; i < quantum + count; i++) {
        struct lu__seg **leaf = vmem->leaves[i >> LU_VMEM_LEAF_SHIFT];
        size_t entry = i & (((size_t)1 << LU_VMEM_LEAF_SHIFT) - 1);
        __atomic_store_n(&leaf[entry], what, __ATOMIC_RELEASE);
    }
}

/* ---------------------------------------------------------------- the break */

static bool raise_break(struct lu__vmem *vmem, size_t bytes) {
    struct lu__area *area = &vmem->heap->area;
    if (bytes > area->limit - area->broken || !have_leaves(vmem, area->broken + bytes))
        return false;
    void *from = lu__area_sbrk(area, (ptrdiff_t)bytes);
    if (from == NULL) return false;
    struct lu__seg *last = vmem->last;
    if (last != NULL && last->kind == LU_VMEM_FREE) {
        take_free(vmem, last);
        last->bytes += bytes;
    } else {
        last = insert_after(vmem, last, (uintptr_t)from, bytes);
    }
    push_free(vmem, last);
    return true;
}

/* The segment at the end becomes free with at least `bytes`. */
static struct lu__seg *import(struct lu__vmem *vmem, size_t bytes) {
    size_t have = 0;
    if (vmem->last != NULL && vmem->last->kind == LU_VMEM_FREE) have = vmem->last->bytes;
    size_t missing = bytes - LU_MIN(have, bytes);
    if (missing == 0) return vmem->last;
    if (!raise_break(vmem, lu__align_up(missing, vmem->step)) && !raise_break(vmem, missing)) {
        return NULL;
    }
    return vmem->last;
}

void lu__vmem_trim(struct lu__vmem *vmem) {
    struct lu__area *area = &vmem->heap->area;
    lu__lock_acquire(&vmem->lock);
    struct lu__seg *last = vmem->last;
    if (last != NULL && last->kind == LU_VMEM_FREE &&
        lu__area_sbrk(area, -(ptrdiff_t)last->bytes) != NULL) {
        take_free(vmem, last);
        remove_tag(vmem, last);
    }
    for (unsigned list = 0; list < LU_VMEM_LISTS; list++) {
        for (struct lu__seg *tag = vmem->lists[list]; tag != NULL; tag = tag->below) {
            lu__area_purge(area, (void *)tag->start, tag->bytes);
        }
    }
    lu__lock_release(&vmem->lock);
}

/* ---------------------------------------------------------------- alloc, free, resize */

/* Cut what lies behind the first `bytes` of a segment off; it becomes free. */
static void cut_end(struct lu__vmem *vmem, struct lu__seg *tag, size_t bytes) {
    if (tag->bytes == bytes) return;
    push_free(vmem, insert_after(vmem, tag, tag->start + bytes, tag->bytes - bytes));
    tag->bytes = bytes;
    LU_COUNT(vmem->heap, splits, 1);
}

/* Cut the beginning up to `start` off; it becomes free. The tag of the rest. */
static struct lu__seg *cut_start(struct lu__vmem *vmem, struct lu__seg *tag, uintptr_t start) {
    size_t before = start - tag->start;
    if (before == 0) return tag;
    struct lu__seg *rest = insert_after(vmem, tag, start, tag->bytes - before);
    tag->bytes = before;
    push_free(vmem, tag);
    LU_COUNT(vmem->heap, splits, 1);
    return rest;
}

static struct lu__seg *alloc_locked(struct lu__vmem *vmem, size_t bytes, size_t align,
                                    enum lu__vmem_kind kind) {
    size_t room = bytes + align - LU_VMEM_QUANTUM; /* an aligned part of it has `bytes` */
    if (bytes > vmem->heap->area.limit || room > vmem->heap->area.limit || !have_tags(vmem)) {
        return NULL;
    }
    struct lu__seg *tag = find_free(vmem, room);
    if (tag == NULL) tag = import(vmem, room);
    if (tag == NULL) return NULL;
    take_free(vmem, tag);
    tag = cut_start(vmem, tag, lu__align_up(tag->start, align));
    cut_end(vmem, tag, bytes);
    tag->kind = kind;
    tag->owner = NULL;
    map(vmem, tag, tag);
    return tag;
}

struct lu__seg *lu__vmem_alloc(struct lu__vmem *vmem, size_t bytes, size_t align,
                               enum lu__vmem_kind kind) {
    lu__lock_acquire(&vmem->lock);
    struct lu__seg *tag = alloc_locked(vmem, lu__align_up(bytes, LU_VMEM_QUANTUM),
                                       LU_MAX(align, LU_VMEM_QUANTUM), kind);
    lu__lock_release(&vmem->lock);
    return tag;
}

/* Two neighbours become one, under the tag of the first. */
static struct lu__seg *merge(struct lu__vmem *vmem, struct lu__seg *tag, struct lu__seg *next) {
    tag->bytes += next->bytes;
    remove_tag(vmem, next);
    LU_COUNT(vmem->heap, merges, 1);
    return tag;
}

static void free_locked(struct lu__vmem *vmem, struct lu__seg *tag) {
    struct lu__seg *next = tag->next, *prev = tag->prev;
    if (next != NULL && next->kind == LU_VMEM_FREE) {
        take_free(vmem, next);
        tag = merge(vmem, tag, next);
    }
    if (prev != NULL && prev->kind == LU_VMEM_FREE) {
        take_free(vmem, prev);
        tag = merge(vmem, prev, tag);
    }
    push_free(vmem, tag);
}

void lu__vmem_free(struct lu__vmem *vmem, struct lu__seg *tag) {
    lu__lock_acquire(&vmem->lock);
    map(vmem, tag, NULL);
    free_locked(vmem, tag);
    lu__lock_release(&vmem->lock);
}

static bool resize_locked(struct lu__vmem *vmem, struct lu__seg *tag, size_t bytes) {
    if (bytes > vmem->heap->area.limit || !have_tags(vmem)) return false;
    struct lu__seg *next = tag->next;
    if (bytes > tag->bytes) {
        size_t more = bytes - tag->bytes;
        bool at_end = next == NULL || (next == vmem->last && next->kind == LU_VMEM_FREE);
        if (at_end) next = import(vmem, more);
        if (next == NULL || next->kind != LU_VMEM_FREE || next->bytes < more) return false;
        take_free(vmem, next);
        (void)merge(vmem, tag, next);
    } else if (bytes < tag->bytes && next != NULL && next->kind == LU_VMEM_FREE) {
        take_free(vmem, next);
        (void)merge(vmem, tag, next);
    }
    cut_end(vmem, tag, bytes);
    return true;
}

bool lu__vmem_resize(struct lu__vmem *vmem, struct lu__seg *tag, size_t bytes) {
    lu__lock_acquire(&vmem->lock);
    bool done = resize_locked(vmem, tag, lu__align_up(bytes, LU_VMEM_QUANTUM));
    lu__lock_release(&vmem->lock);
    return done;
}

/* ---------------------------------------------------------------- life, checks */

bool lu__vmem_init(struct lu__vmem *vmem, struct lu__classic *heap) {
    size_t step = heap->config.step_bytes;
    vmem->heap = heap;
    vmem->step = LU_VMEM_QUANTUM;
    while (vmem->step < (step == 0 ? STEP : LU_MIN(step, LU_GIB))) vmem->step *= 2;
    vmem->leaf_count = (heap->area.limit / LU_VMEM_QUANTUM >> LU_VMEM_LEAF_SHIFT) + 1;
    vmem->leaves = lu__classic_meta_alloc(vmem->leaf_count * sizeof *vmem->leaves);
    return vmem->leaves != NULL;
}

void lu__vmem_fini(struct lu__vmem *vmem) {
    for (size_t i = 0; i < vmem->leaf_count; i++) {
        if (vmem->leaves[i] != NULL) lu__classic_meta_free(vmem->leaves[i], LEAF_BYTES);
    }
    lu__classic_meta_free(vmem->leaves, vmem->leaf_count * sizeof *vmem->leaves);
    for (struct lu__vmem_chunk *chunk = vmem->chunks, *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        lu__classic_meta_free(chunk, CHUNK_BYTES);
    }
}

static bool fail(struct lu__classic_fault *fault, const char *what, uintptr_t where) {
    *fault = (struct lu__classic_fault){what, where};
    return false;
}

static bool check_lists(const struct lu__vmem *vmem, size_t free_segments,
                        struct lu__classic_fault *fault) {
    for (unsigned list = 0; list < LU_VMEM_LISTS; list++) {
        bool marked = (vmem->filled >> list & 1) != 0;
        if (marked != (vmem->lists[list] != NULL)) {
            return fail(fault, "vmem: the map of lists is wrong", list);
        }
        for (struct lu__seg *tag = vmem->lists[list]; tag != NULL; tag = tag->below) {
            if (tag->kind != LU_VMEM_FREE || list_of(tag->bytes) != list || free_segments == 0) {
                return fail(fault, "vmem: a segment in a list that is not its own", tag->start);
            }
            free_segments--;
        }
    }
    return free_segments == 0 || fail(fault, "vmem: a free segment in no list", 0);
}

bool lu__vmem_validate(const struct lu__vmem *vmem, struct lu__classic_fault *fault) {
    uintptr_t end = vmem->heap->area.base;
    size_t free_segments = 0;
    const struct lu__seg *before = NULL;
    for (const struct lu__seg *tag = vmem->first; tag != NULL; before = tag, tag = tag->next) {
        if (tag->start != end || tag->bytes == 0 || tag->bytes % LU_VMEM_QUANTUM != 0) {
            return fail(fault, "vmem: segments that are not neighbours", tag->start);
        }
        if (tag->prev != before) return fail(fault, "vmem: a link back is wrong", tag->start);
        if (tag->kind == LU_VMEM_FREE) {
            free_segments++;
            if (before != NULL && before->kind == LU_VMEM_FREE) {
                return fail(fault, "vmem: two free neighbours", tag->start);
            }
        } else if (lu__vmem_find(vmem, (const void *)tag->start) != tag) {
            return fail(fault, "vmem: a segment that the map does not show", tag->start);
        }
        end += tag->bytes;
    }
    if (before != vmem->last || end != vmem->heap->area.base + vmem->heap->area.broken) {
        return fail(fault, "vmem: the segments do not end at the break", end);
    }
    return check_lists(vmem, free_segments, fault);
}
