/*
 * buddy.c - the binary buddy system.
 *
 * Source: K. C. Knowlton, "A Fast Storage Allocator", CACM 8(10), 1965; D. E. Knuth, The Art of
 * Computer Programming vol. 1, 2.5, algorithms R and S.
 *
 * Every block has 2^k bytes and begins at a multiple of 2^k (its *order* is k, from 5 on). Cutting
 * a block in two gives two *buddies*, and the address of the one follows from that of the other:
 *
 *     offset from the area's base:    buddy(p, k) = p XOR 2^k
 *
 *     k=10 |                               1024                              |   alloc(100):
 *     k=9  |              512              |              512 free           |   three cuts, and
 *     k=8  |      256      |   256 free    |                                     one block of each
 *     k=7  | 128  | free 128|                                                    order is left
 *
 * So freeing needs no search: look at the buddy; if it is free and whole, the two become one of the
 * next order, and so on upwards. Finding is no search either: a bitmap tells which orders have free
 * blocks, the lowest sufficient one is taken and cut down. Both take at most one step per order.
 *
 *     used   | USED, order, distance |  payload …                       |    tag: 16 bytes
 *     free   | FREE, order           | next | prev | (whatever was there) |  smallest block: 32
 *
 * The tag lies inside the block (Knuth's TAG and KVAL), the only memory that the system needs. The
 * price: a request of exactly 2^k bytes takes 2^(k+1), and an aligned one, natural as blocks of
 * 2^k are, takes `align` bytes in front of its payload. Tags in a map beside the heap, a byte for
 * each 32 (a page's descriptor in Linux's page allocator), would avoid both, but that map is itself
 * 3 % of the heap, and for a large area a table of gigabytes of address space. With a payload
 * further inside, a tag INNER just before the payload leads back to the block:
 *
 *     | USED, order, d |   gap   | INNER, -, d | payload at a multiple of align |      d bytes back
 *
 * The break rises when no block is large enough: to the end of the first place at or below it where
 * a block of the order may stand. What is skipped becomes free buddies. Buddies merge only if both
 * lie below the break. Only `trim` lowers it, by the free blocks at the top.
 *
 * Bounds: inside a block up to one half is lost (2^k - 15 bytes take 2^(k+1)), a quarter on average
 * over uniform sizes. Outside, two free neighbours that are not buddies never merge: one used block
 * of 32 bytes in every 2^k, placed badly, leaves nothing above 2^(k-1) of a heap nearly empty.
 *
 * One thread at a time. `end` is where the tagged blocks end: the break, but while it rises.
 */
#include "classic/classic.h"

#define LEAST_ORDER 5u
#define MOST_ORDER 47u
#define STEP_ORDER 16u /* least rise of the break: 64 KiB */

enum tag_state { TAG_FREE = 0x0f4eeb1d, TAG_USED = 0x05edb10c, TAG_INNER = 0x01a9b10c };

struct tag {
    uint32_t state;
    uint32_t order;
    uint64_t distance; /* from the block's start to its payload */
};

struct node {
    struct tag tag;
    struct node *next, *prev; /* of a free block; prev of the first is NULL */
};

struct buddy {
    struct lu__classic heap;
    struct node *lists[MOST_ORDER + 1];
    uint64_t occupied; /* bit k: lists[k] is not empty */
    size_t end;
    unsigned step_order;
};

#define TAG_BYTES sizeof(struct tag)
_Static_assert(sizeof(struct node) == (size_t)1 << LEAST_ORDER, "a free block holds its links");

static struct buddy *of(struct lu__classic *self) {
    return (struct buddy *)self;
}

static struct node *at(const struct buddy *buddy, size_t offset) {
    return (struct node *)(buddy->heap.area.base + offset);
}

static size_t offset_of(const struct buddy *buddy, const void *place) {
    return (uintptr_t)place - buddy->heap.area.base;
}

static size_t size_of(unsigned order) {
    return (size_t)1 << order;
}

/* The least order whose blocks have `bytes`, from 1 to SIZE_MAX / 2. */
static unsigned order_for(size_t bytes) {
    return bytes <= size_of(LEAST_ORDER) ? LEAST_ORDER : lu__log2(bytes - 1) + 1;
}

/* True if a block with a sound tag is there. */
static bool is_block(const struct buddy *buddy, size_t offset) {
    if (offset % size_of(LEAST_ORDER) != 0 || offset >= buddy->end) return false;
    const struct tag *tag = &at(buddy, offset)->tag;
    if (tag->state != TAG_USED && tag->state != TAG_FREE) return false;
    if (tag->order < LEAST_ORDER || tag->order > MOST_ORDER) return false;
    size_t size = size_of(tag->order);
    return offset % size == 0 && size <= buddy->end - offset;
}

static bool is_free(const struct buddy *buddy, size_t offset) {
    return is_block(buddy, offset) && at(buddy, offset)->tag.state == TAG_FREE;
}

/* ---------------------------------------------------------------- the lists */

static void push(struct buddy *buddy, size_t offset, unsigned order) {
    struct node *node = at(buddy, offset), *next = buddy->lists[order];
    node->tag = (struct tag){TAG_FREE, order, 0};
    node->prev = NULL;
    node->next = next;
    if (next != NULL) next->prev = node;
    buddy->lists[order] = node;
    buddy->occupied |= (uint64_t)1 << order;
}

static void unlink_node(struct buddy *buddy, struct node *node, unsigned order) {
    if (node->next != NULL) node->next->prev = node->prev;
    if (node->prev != NULL) {
        node->prev->next = node->next;
        return;
    }
    buddy->lists[order] = node->next;
    if (node->next == NULL) buddy->occupied &= ~((uint64_t)1 << order);
}

/* A block becomes free, together with its buddy if that is, and so on. */
static void release(struct buddy *buddy, size_t offset, unsigned order) {
    at(buddy, offset)->tag.state = TAG_FREE; /* stays so in a merged one: a second free is seen */
    for (; order < MOST_ORDER; order++) {
        size_t other = offset ^ size_of(order);
        if (other >= buddy->end || size_of(order) > buddy->end - other) break;
        struct node *node = at(buddy, other);
        if (!is_block(buddy, other)) {
            lu__classic_misuse(&buddy->heap, "a header was overwritten", &node->next);
            break;
        }
        if (node->tag.state != TAG_FREE || node->tag.order != order) break;
        unlink_node(buddy, node, order);
        offset &= ~size_of(order);
        LU_COUNT(&buddy->heap, merges, 1);
    }
    push(buddy, offset, order);
}

/* ---------------------------------------------------------------- the break */

/* True if from `offset`, where a block begins, to the end there are free blocks only. */
static bool free_from(const struct buddy *buddy, size_t offset) {
    while (offset < buddy->end) {
        if (!is_free(buddy, offset)) return false;
        offset += size_of(at(buddy, offset)->tag.order);
    }
    return true;
}

/* The largest block that may begin at `offset` and ends at `end` or before. */
static unsigned order_at(size_t offset, size_t end) {
    unsigned fits = lu__log2(end - offset);
    unsigned starts = offset == 0 ? MOST_ORDER : (unsigned)__builtin_ctzl(offset);
    return LU_MIN(fits, starts);
}

/* Raise the break so that there is a free block of the order. The place for one that the break lies
 * in will do if what is below the break in it is free. */
static bool raise_for(struct buddy *buddy, unsigned order) {
    size_t start = lu__align_down(buddy->end, size_of(order));
    if (!free_from(buddy, start)) start += size_of(order);
    size_t to = start + size_of(order);
    if (lu__area_sbrk(&buddy->heap.area, (ptrdiff_t)(to - buddy->end)) == NULL) return false;
    while (buddy->end < to) {
        size_t offset = buddy->end;
        unsigned piece = order_at(offset, to);
        buddy->end += size_of(piece);
        at(buddy, offset)->tag = (struct tag){TAG_FREE, piece, 0};
        release(buddy, offset, piece);
    }
    return true;
}

static bool grow(struct buddy *buddy, unsigned order) {
    if (order < buddy->step_order && raise_for(buddy, buddy->step_order)) return true;
    return raise_for(buddy, order);
}

/* The start of the free blocks below the break; the break if there are none. */
static size_t free_top(const struct buddy *buddy) {
    size_t top = 0, offset = 0;
    while (is_block(buddy, offset)) {
        const struct tag *tag = &at(buddy, offset)->tag;
        offset += size_of(tag->order);
        if (tag->state == TAG_USED) top = offset;
    }
    return offset == buddy->end ? top : buddy->end;
}

static void trim(struct lu__classic *self) {
    struct buddy *buddy = of(self);
    size_t top = free_top(buddy), end = buddy->end;
    if (top == end) return;
    for (size_t offset = top; offset < end;) {
        struct node *node = at(buddy, offset);
        unlink_node(buddy, node, node->tag.order);
        offset += size_of(node->tag.order);
    }
    if (lu__area_sbrk(&self->area, -(ptrdiff_t)(end - top)) != NULL) {
        buddy->end = top;
        return;
    }
    for (size_t offset = top; offset < end;) {
        unsigned order = at(buddy, offset)->tag.order;
        push(buddy, offset, order);
        offset += size_of(order);
    }
}

/* ---------------------------------------------------------------- alloc */

/* A free block of at least the order, out of its list; NULL: there is none. A list that begins with
 * a damaged block is given up. */
static struct node *pop(struct buddy *buddy, unsigned order) {
    uint64_t enough;
    while ((enough = buddy->occupied >> order << order) != 0) {
        unsigned k = (unsigned)__builtin_ctzl(enough);
        struct node *node = buddy->lists[k];
        LU_COUNT(&buddy->heap, searches, 1);
        if (is_free(buddy, offset_of(buddy, node)) && node->tag.order == k) {
            unlink_node(buddy, node, k);
            return node;
        }
        buddy->lists[k] = NULL;
        buddy->occupied &= ~((uint64_t)1 << k);
        lu__classic_misuse(&buddy->heap, "a header was overwritten", &node->next);
    }
    return NULL;
}

/* A block of the order, cut from the smallest free one that will do; NULL: there is none. */
static struct node *take(struct buddy *buddy, unsigned order) {
    struct node *node = pop(buddy, order);
    if (node == NULL) return NULL;
    for (unsigned k = node->tag.order; k > order;) {
        k--;
        push(buddy, offset_of(buddy, node) + size_of(k), k);
        LU_COUNT(&buddy->heap, splits, 1);
    }
    return node;
}

/* A block with `bytes` behind its tag. */
static struct node *obtain(struct buddy *buddy, size_t bytes) {
    unsigned order = order_for(TAG_BYTES + bytes);
    if (order > MOST_ORDER) return NULL;
    struct node *node = take(buddy, order);
    if (node == NULL && grow(buddy, order)) node = take(buddy, order);
    if (node != NULL) node->tag = (struct tag){TAG_USED, order, TAG_BYTES};
    return node;
}

static void *alloc(struct lu__classic *self, size_t bytes) {
    struct node *node = obtain(of(self), bytes);
    return node != NULL ? (char *)node + TAG_BYTES : NULL;
}

static void *alloc_aligned(struct lu__classic *self, size_t align, size_t bytes) {
    struct node *node = obtain(of(self), align - TAG_BYTES + bytes);
    if (node == NULL) return NULL;
    uintptr_t start = (uintptr_t)node, payload = lu__align_up(start + TAG_BYTES, align);
    node->tag.distance = payload - start;
    if (node->tag.distance > TAG_BYTES) {
        *(struct tag *)(payload - TAG_BYTES) = (struct tag){TAG_INNER, 0, node->tag.distance};
    }
    return (void *)payload;
}

/* ---------------------------------------------------------------- free, resize */

/* The used block of a payload; NULL if it is none. */
static struct node *block_of(const struct buddy *buddy, const void *payload) {
    size_t offset = offset_of(buddy, payload), distance = TAG_BYTES;
    if (offset % LU_CLASSIC_ALIGN != 0 || offset < TAG_BYTES || offset >= buddy->end) return NULL;
    const struct tag *tag = (const struct tag *)payload - 1;
    if (tag->state == TAG_INNER) distance = tag->distance;
    if (distance > offset || !is_block(buddy, offset - distance)) return NULL;
    struct node *node = at(buddy, offset - distance);
    bool its = node->tag.state == TAG_USED && node->tag.distance == distance;
    return its && distance < size_of(node->tag.order) ? node : NULL;
}

static void report(const struct buddy *buddy, const void *payload) {
    size_t offset = offset_of(buddy, payload);
    const char *what = "not a block of this heap";
    if (offset >= TAG_BYTES && offset < buddy->end && offset % LU_CLASSIC_ALIGN == 0) {
        const struct tag *tag = (const struct tag *)payload - 1;
        what = "not a block, or its header was overwritten";
        if (tag->state == TAG_FREE) what = "freed a second time";
    }
    lu__classic_misuse(&buddy->heap, what, payload);
}

static void free_block(struct lu__classic *self, void *payload) {
    struct buddy *buddy = of(self);
    struct node *node = block_of(buddy, payload);
    if (node == NULL) {
        report(buddy, payload);
        return;
    }
    ((struct tag *)payload - 1)->state = TAG_FREE; /* INNER too */
    release(buddy, offset_of(buddy, node), node->tag.order);
}

/* The order that a block can get by taking in the free buddies to its right; at most `wanted`. */
static unsigned reach(const struct buddy *buddy, size_t offset, unsigned order, unsigned wanted) {
    while (order < wanted) {
        size_t right = offset + size_of(order);
        if ((offset & size_of(order)) != 0 || !is_free(buddy, right)) break;
        if (at(buddy, right)->tag.order != order) break;
        order++;
    }
    return order;
}

static void *resize(struct lu__classic *self, void *payload, size_t bytes) {
    struct buddy *buddy = of(self);
    struct node *node = block_of(buddy, payload);
    if (node == NULL) {
        report(buddy, payload);
        return NULL;
    }
    size_t offset = offset_of(buddy, node);
    unsigned order = node->tag.order, wanted = order_for(node->tag.distance + bytes);
    if (wanted > order && reach(buddy, offset, order, wanted) < wanted) return NULL;
    for (; order < wanted; order++) {
        unlink_node(buddy, at(buddy, offset + size_of(order)), order);
        LU_COUNT(self, merges, 1);
    }
    node->tag.order = order;
    while (order > wanted) {
        node->tag.order = --order;
        size_t right = offset + size_of(order);
        at(buddy, right)->tag = (struct tag){TAG_FREE, order, 0};
        push(buddy, right, order); /* its buddy is this block: nothing to merge */
        LU_COUNT(self, splits, 1);
    }
    return payload;
}

static size_t usable_size(const struct lu__classic *self, const void *payload) {
    const struct buddy *buddy = (const struct buddy *)self;
    const struct node *node = block_of(buddy, payload);
    return node != NULL ? size_of(node->tag.order) - node->tag.distance : 0;
}

/* ---------------------------------------------------------------- walk, validate */

static void walk(struct lu__classic *self, lu__block_visit *visit, void *arg) {
    const struct buddy *buddy = of(self);
    for (size_t offset = 0; is_block(buddy, offset);) {
        const struct node *node = at(buddy, offset);
        struct lu__block block = {.start = (uintptr_t)node,
                                  .bytes = size_of(node->tag.order),
                                  .header = TAG_BYTES,
                                  .state = LU_BLOCK_FREE};
        if (node->tag.state == TAG_USED) {
            block.state = LU_BLOCK_USED;
            block.header = node->tag.distance;
            block.usable = block.bytes - block.header;
        }
        offset += block.bytes;
        if (!visit(arg, &block)) return;
    }
}

static bool fail(struct lu__classic_fault *fault, const char *what, const void *where) {
    *fault = (struct lu__classic_fault){what, (uintptr_t)where};
    return false;
}

/* The blocks tile the heap, and no two free buddies are apart. Counts the free ones. */
static bool check_blocks(const struct buddy *buddy, size_t *counts,
                         struct lu__classic_fault *fault) {
    size_t offset = 0;
    while (offset < buddy->end) {
        const struct node *node = at(buddy, offset);
        if (!is_block(buddy, offset)) return fail(fault, "a damaged header", node);
        unsigned order = node->tag.order;
        size_t size = size_of(order), other = offset ^ size;
        if (node->tag.state == TAG_USED) {
            size_t distance = node->tag.distance;
            if (distance < TAG_BYTES || distance >= size || distance % TAG_BYTES != 0 ||
                block_of(buddy, (const char *)node + distance) != node) {
                return fail(fault, "a used block without its payload", node);
            }
        } else {
            counts[order]++;
            if (is_free(buddy, other) && at(buddy, other)->tag.order == order) {
                return fail(fault, "two free buddies that are not one block", node);
            }
        }
        offset += size;
    }
    return true;
}

static bool check_list(const struct buddy *buddy, unsigned order, size_t count,
                       struct lu__classic_fault *fault) {
    const struct node *before = NULL, *node = buddy->lists[order];
    for (; node != NULL; before = node, node = node->next) {
        if (!is_free(buddy, offset_of(buddy, node)) || node->tag.order != order) {
            return fail(fault, "a link to what is no free block of its order", before);
        }
        if (node->prev != before) return fail(fault, "a link back that is wrong", node);
        if (count-- == 0) return fail(fault, "more links than free blocks", node);
    }
    return count == 0 || fail(fault, "a free block that is in no list", before);
}

static bool validate(struct lu__classic *self, struct lu__classic_fault *fault) {
    const struct buddy *buddy = of(self);
    size_t counts[MOST_ORDER + 1] = {0};
    if (buddy->end != self->area.broken) {
        return fail(fault, "the blocks do not end at the break", at(buddy, buddy->end));
    }
    if (!check_blocks(buddy, counts, fault)) return false;
    for (unsigned order = 0; order <= MOST_ORDER; order++) {
        bool marked = (buddy->occupied >> order & 1) != 0;
        if (marked != (buddy->lists[order] != NULL)) {
            return fail(fault, "the map of orders is wrong", buddy->lists[order]);
        }
        if (!check_list(buddy, order, counts[order], fault)) return false;
    }
    return true;
}

static bool init(struct lu__classic *self) {
    size_t step = self->config.step_bytes;
    of(self)->step_order = step == 0 ? STEP_ORDER : LU_MIN(order_for(step), MOST_ORDER);
    return true;
}

const struct lu__policy lu__policy_buddy = {
    .name = "buddy",
    .title = "binary buddies: blocks of 2^k bytes, merged with the one other half",
    .source = "K. C. Knowlton, A Fast Storage Allocator, CACM 8(10), 1965",
    .state_bytes = sizeof(struct buddy),
    .align = LU_CLASSIC_ALIGN,
    .init = init,
    .alloc = alloc,
    .alloc_aligned = alloc_aligned,
    .free = free_block,
    .resize = resize,
    .usable_size = usable_size,
    .walk = walk,
    .validate = validate,
    .trim = trim,
};
