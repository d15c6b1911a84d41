/*
 * fit.c - the sequential fits and best fit in a tree: blocks, merging, the break.
 *
 * Sources: D. E. Knuth, The Art of Computer Programming vol. 1 (3rd ed. 1997), 2.5: boundary tags
 * (algorithm C), the roving pointer (exercise 6), the fifty-percent rule; P. R. Wilson, M. S.
 * Johnstone, M. Neely, D. Boles, Dynamic Storage Allocation: A Survey and Critical Review, 1995.
 *
 * A block is a multiple of 16 bytes, at least 32, and begins 8 bytes before an address that is one:
 *
 *      tag                 payload, aligned to 16
 *     [size     | B U ] [  what the caller may write: size - 8 bytes          ]       used
 *     [size     | B 0 ] [ link | link | nothing …                     | size  ]       free
 *                                                                       footer
 *     U: this block is used      B: the block before is used, so that its last word is no footer
 *
 *     base                                                              break
 *     [pad 8][ block ][ block ] … [ block ][fence 8: tag of no bytes, used]
 *
 * The tag tells where the next block begins, and where B is not set the footer before it tells
 * where the one before begins: both neighbours are found without a search, and a block that is
 * freed merges with those that are free at once. No two free blocks are neighbours, ever.
 *
 * When nothing fits the break rises, by what is missing behind a free block at the end, but at
 * least by a step (64 KiB; config.step_bytes). It never sinks: trimming is no part of these
 * algorithms. A rest of less than 32 bytes stays with the block.
 *
 * Bounds. Let callers hold at most M bytes, in blocks of 1 to n units. Any fit needs at most about
 * M n: a hole that is too small is smaller than n, and beside each is a live block. For best fit
 * that is nearly reached; first fit by address needs about M log2 n; and no allocator that does not
 * move blocks can promise less than about half of that (J. M. Robson, Bounds for Some Functions
 * Concerning Dynamic Storage Allocation, 1974; Worst Case Fragmentation of First Fit and Best Fit
 * Storage Allocation Strategies, 1977). The fifty-percent rule: in a steady state there are about
 * half as many free blocks as used ones.
 *
 * For one thread. What an overflow destroys is the next block's tag; validate finds that, and free
 * finds most of it.
 */
#include "classic/fit.h"

#define STEP (64 * LU_KIB)

static struct lu__fit *fit_of(struct lu__classic *self) {
    return (struct lu__fit *)self;
}

static struct lu__fit_block *first_block(const struct lu__fit *fit) {
    return (struct lu__fit_block *)(fit->heap.area.base + LU_FIT_TAG);
}

static struct lu__fit_block *block_of(const void *payload) {
    return (struct lu__fit_block *)((uintptr_t)payload - LU_FIT_TAG);
}

static void *payload_of(const struct lu__fit_block *block) {
    return (void *)((uintptr_t)block + LU_FIT_TAG);
}

static bool is_before_used(const struct lu__fit_block *block) {
    return (block->tag & LU_FIT_BEFORE_USED) != 0;
}

static size_t *footer_before(const struct lu__fit_block *block) {
    return (size_t *)((uintptr_t)block - sizeof(size_t));
}

static size_t bytes_for(size_t asked) {
    size_t bytes = lu__align_up(asked + LU_FIT_TAG, LU_CLASSIC_ALIGN);
    return LU_MAX(bytes, (size_t)LU_FIT_LEAST);
}

/* ---------------------------------------------------------------- what can be believed */

bool lu__fit_is_inside(const struct lu__fit *fit, const struct lu__fit_block *block) {
    uintptr_t offset = (uintptr_t)block - fit->heap.area.base;
    size_t broken = fit->heap.area.broken;
    return offset % LU_CLASSIC_ALIGN == LU_FIT_TAG && broken > LU_FIT_LEAST &&
           offset <= broken - LU_FIT_TAG - LU_FIT_LEAST;
}

/* True if the size in the tag can be one. */
static bool is_sized(const struct lu__fit *fit, const struct lu__fit_block *block) {
    size_t bytes = lu__fit_bytes(block);
    return bytes >= LU_FIT_LEAST && bytes <= (uintptr_t)lu__fit_fence(fit) - (uintptr_t)block;
}

static bool is_in_use(const struct lu__fit *fit, const struct lu__fit_block *block) {
    return lu__fit_is_inside(fit, block) && lu__fit_is_used(block) && is_sized(fit, block) &&
           is_before_used(lu__fit_after(block));
}

bool lu__fit_wrong(struct lu__classic_fault *fault, const char *what, const void *where) {
    *fault = (struct lu__classic_fault){what, (uintptr_t)where};
    return false;
}

/* ---------------------------------------------------------------- free and used */

static struct lu__fit_block *take(struct lu__fit *fit, struct lu__fit_block *block) {
    fit->free_blocks--;
    return fit->order->take(fit, block);
}

/* `bytes` from `block` on, of which its tag tells what is before, become a free block. */
static void put(struct lu__fit *fit, struct lu__fit_block *block, size_t bytes,
                struct lu__fit_block *hint) {
    block->tag = bytes | (block->tag & LU_FIT_BEFORE_USED);
    struct lu__fit_block *after = lu__fit_at(block, bytes);
    *footer_before(after) = bytes;
    after->tag &= ~(size_t)LU_FIT_BEFORE_USED;
    fit->free_blocks++;
    fit->order->put(fit, block, hint);
}

/* Free a block that is not kept, merged with its neighbours. The tags that fall inside are cleared,
 * so that a second free of the same payload is seen. */
static struct lu__fit_block *release(struct lu__fit *fit, struct lu__fit_block *block) {
    struct lu__fit_block *hint = NULL, *after = lu__fit_after(block);
    size_t bytes = lu__fit_bytes(block);
    if (!lu__fit_is_used(after)) {
        hint = take(fit, after);
        bytes += lu__fit_bytes(after);
        after->tag = 0;
        LU_COUNT(&fit->heap, merges, 1);
    }
    if (!is_before_used(block)) {
        struct lu__fit_block *before = lu__fit_at(block, 0 - *footer_before(block));
        hint = take(fit, before);
        bytes += lu__fit_bytes(before);
        block->tag = 0;
        block = before;
        LU_COUNT(&fit->heap, merges, 1);
    }
    put(fit, block, bytes, hint);
    return block;
}

/* Use `bytes` of a block that is not kept, behind `front` bytes that stay free; so does what is
 * left at the end. */
static struct lu__fit_block *use(struct lu__fit *fit, struct lu__fit_block *block, size_t front,
                                 size_t bytes, struct lu__fit_block *hint) {
    size_t has = lu__fit_bytes(block) - front, before_used = block->tag & LU_FIT_BEFORE_USED;
    if (front != 0) {
        struct lu__fit_block *whole = block;
        block = lu__fit_at(whole, front);
        block->tag = 0;
        put(fit, whole, front, hint);
        hint = whole;
        before_used = 0;
        LU_COUNT(&fit->heap, splits, 1);
    }
    bool cut = has - bytes >= LU_FIT_LEAST;
    block->tag = (cut ? bytes : has) | before_used | LU_FIT_USED;
    struct lu__fit_block *after = lu__fit_after(block);
    if (cut) {
        after->tag = LU_FIT_BEFORE_USED;
        put(fit, after, has - bytes, hint);
        LU_COUNT(&fit->heap, splits, 1);
    } else {
        after->tag |= LU_FIT_BEFORE_USED;
    }
    return block;
}

/* ---------------------------------------------------------------- the break */

/* Bytes of the free block that ends at the break. */
static size_t free_at_end(const struct lu__fit *fit) {
    const struct lu__fit_block *fence = lu__fit_fence(fit);
    return is_before_used(fence) ? 0 : *footer_before(fence);
}

/* Raise the break until a free block of `bytes` ends at it. NULL: it cannot be there. */
static struct lu__fit_block *extend(struct lu__fit *fit, size_t bytes) {
    struct lu__area *area = &fit->heap.area;
    bool first = area->broken == 0;
    size_t step = fit->heap.config.step_bytes != 0 ? fit->heap.config.step_bytes : STEP;
    size_t least = first ? bytes + 2 * LU_FIT_TAG : bytes - free_at_end(fit);
    size_t rise = LU_MAX(least, lu__align_up(step, LU_CLASSIC_ALIGN));
    void *old = lu__area_sbrk(area, (ptrdiff_t)rise);
    if (old == NULL && rise > least) {
        rise = least;
        old = lu__area_sbrk(area, (ptrdiff_t)rise);
    }
    if (old == NULL) return NULL;

    struct lu__fit_block *block = first_block(fit);
    size_t before_used = LU_FIT_BEFORE_USED;
    if (first) {
        *footer_before(block) = 0; /* the pad */
        rise -= 2 * LU_FIT_TAG;
    } else {
        block = block_of(old); /* where the fence was */
        before_used = block->tag & LU_FIT_BEFORE_USED;
    }
    block->tag = rise | before_used;
    lu__fit_fence(fit)->tag = LU_FIT_USED;
    return release(fit, block);
}

/* ---------------------------------------------------------------- calls */

bool lu__fit_init(struct lu__classic *self, const struct lu__fit_order *order) {
    struct lu__fit *fit = fit_of(self);
    fit->order = order;
    fit->list.next = fit->list.prev = fit->rover = &fit->list;
    return true;
}

static struct lu__fit_block *find(struct lu__fit *fit, size_t bytes) {
    struct lu__fit_block *block = fit->order->search(fit, bytes);
    return block != NULL ? block : extend(fit, bytes);
}

static void *hand_out(struct lu__fit *fit, struct lu__fit_block *block, size_t front,
                      size_t bytes) {
    fit->rover = block;
    struct lu__fit_block *hint = take(fit, block);
    fit->position = (uintptr_t)block + front + bytes;
    return payload_of(use(fit, block, front, bytes, hint));
}

void *lu__fit_alloc(struct lu__classic *self, size_t asked) {
    struct lu__fit *fit = fit_of(self);
    size_t bytes = bytes_for(asked);
    struct lu__fit_block *block = find(fit, bytes);
    return block != NULL ? hand_out(fit, block, 0, bytes) : NULL;
}

void *lu__fit_alloc_aligned(struct lu__classic *self, size_t align, size_t asked) {
    struct lu__fit *fit = fit_of(self);
    size_t bytes = bytes_for(asked);
    /* Of a front of 16 bytes no block can be made: then it is longer by `align`. */
    struct lu__fit_block *block = find(fit, bytes + align + LU_CLASSIC_ALIGN);
    if (block == NULL) return NULL;
    uintptr_t payload = (uintptr_t)payload_of(block);
    size_t front = lu__align_up(payload, align) - payload;
    if (front != 0 && front < LU_FIT_LEAST) front += align;
    return hand_out(fit, block, front, bytes);
}

void lu__fit_free(struct lu__classic *self, void *payload) {
    struct lu__fit *fit = fit_of(self);
    struct lu__fit_block *block = block_of(payload);
    if (is_in_use(fit, block)) {
        (void)release(fit, block);
    } else {
        lu__classic_misuse(self, "free of what is not in use, or its tag was overwritten", payload);
    }
}

void *lu__fit_resize(struct lu__classic *self, void *payload, size_t asked) {
    struct lu__fit *fit = fit_of(self);
    struct lu__fit_block *block = block_of(payload);
    size_t bytes = bytes_for(asked), has = lu__fit_bytes(block);
    if (bytes > has) {
        struct lu__fit_block *after = lu__fit_after(block);
        if (lu__fit_is_used(after) || has + lu__fit_bytes(after) < bytes) return NULL;
        struct lu__fit_block *hint = take(fit, after);
        block->tag += lu__fit_bytes(after);
        LU_COUNT(self, merges, 1);
        (void)use(fit, block, 0, bytes, hint);
    } else if (has - bytes >= LU_FIT_LEAST) {
        struct lu__fit_block *rest = lu__fit_at(block, bytes);
        block->tag -= has - bytes;
        rest->tag = (has - bytes) | LU_FIT_BEFORE_USED;
        LU_COUNT(self, splits, 1);
        (void)release(fit, rest);
    }
    return payload;
}

size_t lu__fit_usable_size(const struct lu__classic *self, const void *payload) {
    const struct lu__fit_block *block = block_of(payload);
    if (!is_in_use((const struct lu__fit *)self, block)) return 0;
    return lu__fit_bytes(block) - LU_FIT_TAG;
}

/* ---------------------------------------------------------------- walks */

static bool visit_meta(lu__block_visit *visit, void *arg, const void *at) {
    struct lu__block meta = {.start = (uintptr_t)at, .bytes = LU_FIT_TAG, .state = LU_BLOCK_META};
    return visit(arg, &meta);
}

void lu__fit_walk(struct lu__classic *self, lu__block_visit *visit, void *arg) {
    const struct lu__fit *fit = fit_of(self);
    if (self->area.broken == 0) return;
    if (!visit_meta(visit, arg, (void *)self->area.base)) return; /* the pad */
    const struct lu__fit_block *fence = lu__fit_fence(fit);
    for (const struct lu__fit_block *at = first_block(fit); at < fence; at = lu__fit_after(at)) {
        struct lu__block block = {
            .start = (uintptr_t)at,
            .bytes = lu__fit_bytes(at),
            .header = LU_FIT_TAG,
            .state = LU_BLOCK_FREE,
        };
        if (lu__fit_is_used(at)) {
            block.state = LU_BLOCK_USED;
            block.usable = block.bytes - LU_FIT_TAG;
        }
        if (!visit(arg, &block)) return;
    }
    (void)visit_meta(visit, arg, fence);
}

/* What is true of every block; `before_used` is what the one before it says. */
static bool check_block(const struct lu__fit *fit, const struct lu__fit_block *at, bool before_used,
                        struct lu__classic_fault *fault) {
    if (!is_sized(fit, at)) return lu__fit_wrong(fault, "a tag with an impossible size", at);
    if (is_before_used(at) != before_used) {
        return lu__fit_wrong(fault, "a tag that is wrong about the block before", at);
    }
    if ((at->tag & LU_FIT_FLAGS & ~(size_t)(LU_FIT_USED | LU_FIT_BEFORE_USED)) != 0) {
        return lu__fit_wrong(fault, "a tag with flags that there are not", at);
    }
    if (lu__fit_is_used(at)) return true;
    if (!before_used) {
        return lu__fit_wrong(fault, "two free neighbours that were not merged", at);
    }
    if (*footer_before(lu__fit_after(at)) != lu__fit_bytes(at)) {
        return lu__fit_wrong(fault, "a free block whose footer is not its size", at);
    }
    return true;
}

/* Blocks tile the heap up to the fence, all tags agree, and the free blocks are those that are
 * kept, in order. */
bool lu__fit_validate(struct lu__classic *self, struct lu__classic_fault *fault) {
    const struct lu__fit *fit = fit_of(self);
    const struct lu__fit_block *state = NULL;
    size_t free_blocks = 0;
    bool before_used = true;
    if (self->area.broken != 0) {
        const struct lu__fit_block *fence = lu__fit_fence(fit), *at = first_block(fit);
        for (; at < fence; at = lu__fit_after(at)) {
            if (!check_block(fit, at, before_used, fault)) return false;
            before_used = lu__fit_is_used(at);
            if (before_used) continue;
            free_blocks++;
            if (!fit->order->check(fit, at, &state, fault)) return false;
        }
        if (fence->tag != (LU_FIT_USED | (before_used ? LU_FIT_BEFORE_USED : 0u))) {
            return lu__fit_wrong(fault, "the fence at the end was overwritten", fence);
        }
    }
    if (free_blocks != fit->free_blocks) {
        return lu__fit_wrong(fault, "a free block that is not kept", first_block(fit));
    }
    return fit->order->check(fit, NULL, &state, fault);
}
