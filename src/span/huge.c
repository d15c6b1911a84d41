/*
 * huge.c - blocks in mappings of their own.
 *
 * From mmap_threshold on, a block is a mapping of its own: its pages come and go with it, and
 * mremap resizes it without copying. Where the block begins in the mapping varies by cache lines,
 * as with all large blocks (heap/large.c):
 *
 *     mapping   | offset | block: usable bytes ...... | less than a page |
 *
 * The usable bytes count as held. A block of a run that must grow by moving becomes a mapping as
 * well (adopt): its pages go to an address that the kernel chooses,
 *
 *     run      | pages |            mremap(DONTUNMAP)       | zero, clean: a free run |
 *     elsewhere        | free addresses |      ---->        | pages  | room to grow   |
 *
 * and the run is free, and clean. So regions hold only pages of their own, and no call here
 * replaces or unmaps anything but a block's own mapping: if the kernel refuses, everything is as it
 * was. At most LU_HUGE_BELOW_MOST blocks below mmap_threshold have mappings for this reason, or
 * because they became smaller.
 *
 * A skip list (skip.c) under one lock has all mappings. While mremap may move a block, the block is
 * not in the list, and the caller keeps its node: another thread may get the old address as soon as
 * mremap has left it, and putting the node back cannot fail.
 */
#include "span/huge.h"

#include <errno.h>
#include <string.h>

#include "base/options.h"
#include "os/lock.h"
#include "os/os.h"
#include "span/skip.h"
#include "span/span.h"

#define LINE ((size_t)64)
#define OFFSETS (LU_OS_PAGE_LEAST / LINE)
#define STEP 39u                    /* of 64, by the golden ratio: those in turn lie far apart */
#define ADDRESSES ((size_t)1 << 47) /* no mapping can be larger */
#define ROUND 64u
#define COPY_BYTES (2 * LU_MIB)

static struct lu__lock huge_lock = LU_LOCK_INIT(LU_RANK_LEAF); /* guards these */
static struct lu__skip blocks;
static size_t turn;        /* number of the next offset */
static size_t below_count; /* nodes with `below`; those out of the list included */

static bool is_below(size_t bytes) {
    return bytes < (size_t)lu__option(LU_OPT_MMAP_THRESHOLD);
}

static void count_blocks(size_t count) {
    __atomic_store_n(&lu__span_figures.huge_blocks, count, __ATOMIC_RELAXED);
}

/* `node`, or a new one if that is NULL, for a block that will be `below` or not. NULL: no memory,
 * or there are too many below; then `node` is as it was. Locked. */
static struct lu__skip_node *prepare(struct lu__skip_node *node, bool below) {
    bool was_below = node != NULL && node->below;
    if (below && !was_below && below_count >= LU_HUGE_BELOW_MOST) return NULL;
    if (node == NULL) node = lu__skip_take(&blocks);
    if (node == NULL) return NULL;
    below_count += (size_t)below - (size_t)was_below;
    node->below = below;
    return node;
}

static struct lu__skip_node *node_make(bool below) {
    lu__lock_acquire(&huge_lock);
    struct lu__skip_node *node = prepare(NULL, below);
    lu__lock_release(&huge_lock);
    return node;
}

static void node_end(struct lu__skip_node *node) {
    lu__lock_acquire(&huge_lock);
    below_count -= node->below;
    node->below = false;
    lu__skip_give(&blocks, node);
    lu__lock_release(&huge_lock);
}

/* Of a mapping whose block begins at the offset. */
static size_t mapping_bytes(size_t offset, size_t bytes) {
    return lu__align_up(offset + bytes, LU_OS_PAGE);
}

/* The mapping is there. */
static void *remember(struct lu__skip_node *node, char *mapping, size_t offset, size_t bytes,
                      struct heap *owner) {
    node->block = mapping + offset;
    node->bytes = bytes;
    node->offset = (uint32_t)offset;
    node->owner = owner;
    lu__lock_acquire(&huge_lock);
    count_blocks(lu__span_figures.huge_blocks + 1);
    lu__skip_insert(&blocks, node);
    lu__lock_release(&huge_lock);
    lu__span_note_peak();
    return mapping + offset;
}

static struct lu__skip_node *forget_locked(const void *block) {
    struct lu__skip_node *node = lu__skip_remove(&blocks, block);
    if (node != NULL) count_blocks(lu__span_figures.huge_blocks - 1);
    return node;
}

static size_t next_offset(size_t align) {
    size_t next = __atomic_fetch_add(&turn, STEP, __ATOMIC_RELAXED) % OFFSETS;
    return lu__align_down(next * LINE, LU_MAX(align, LINE));
}

void *lu__huge_alloc(size_t size, size_t align, struct heap *owner) {
    size_t bytes = lu__align_up(size, LU_OS_PAGE), offset = next_offset(align);
    if (bytes < size || bytes > ADDRESSES) return NULL;
    struct lu__skip_node *node = node_make(false);
    if (node == NULL) return NULL;
    void *mapping;
    align = LU_MAX(align, LU_OS_PAGE);
    if (lu__span_charge(bytes)) {
        int error;
        do {
            error = lu__os_map(mapping_bytes(offset, bytes), align, &mapping);
        } while (error == ENOMEM && lu__run_refused(mapping_bytes(offset, bytes), bytes));
        if (error == 0) return remember(node, mapping, offset, bytes, owner);
        if (offset != 0 && lu__os_map(bytes, align, &mapping) == 0) {
            return remember(node, mapping, 0, bytes, owner);
        }
        lu__span_uncharge(bytes);
    }
    node_end(node);
    return NULL;
}

/* ---------------------------------------------------------------- moving in */

static void unmap(void *at, size_t bytes) {
    if (lu__os_unmap(at, bytes) != 0 && lu__os_purge(at, bytes) != 0) {
        return; /* neither: the pages stay, the address space is lost, nothing else is */
    }
}

/* Bring back the pages that were moved out, without having many of them twice. */
static void move_back(char *to, char *at, size_t bytes) {
    for (size_t done = 0; done < bytes; done += COPY_BYTES) {
        size_t part = LU_MIN(bytes - done, COPY_BYTES);
        memcpy(to + done, at + done, part);
        if (done + part < bytes && lu__os_purge(at + done, part) != 0) continue; /* it has time */
    }
    unmap(at, bytes);
}

/* The mapping of `had` bytes becomes one of `bytes`, some of which are charged already. Free memory
 * goes back if that helps. */
static int resize(void *at, size_t had, size_t bytes, size_t charged, void **out) {
    int error;
    do {
        error = lu__os_remap(at, had, bytes, out);
    } while (error == ENOMEM && bytes > had && lu__run_refused(bytes - had, charged));
    return error;
}

/* Move the pages, and make the mapping `bytes` long. NULL: the pages are where they were. */
static void *move_out(void *from, size_t had, size_t bytes, size_t charged) {
    void *at, *grown;
    int error;
    do {
        error = lu__os_move_out(from, had, bytes, &at);
    } while (error == ENOMEM && lu__run_refused(bytes, charged));
    if (error != 0) return NULL;
    if (bytes == had) return at;
    if (resize(at, had, bytes, charged, &grown) == 0) return grown;
    move_back(from, at, had);
    return NULL;
}

void *lu__huge_adopt(void *from, size_t had, size_t offset, size_t size, struct heap *owner) {
    size_t bytes = lu__align_up(size, LU_OS_PAGE);
    if (bytes < size || bytes > ADDRESSES) return NULL;
    size_t more = bytes - LU_MIN(bytes, had), length = mapping_bytes(offset, bytes);
    LU_ASSERT(length >= had);
    struct lu__skip_node *node = node_make(is_below(bytes));
    if (node == NULL) return NULL;
    if (lu__span_charge(more)) { /* the rest is charged for the run, until that is free */
        void *mapping = move_out(from, had, length, more);
        if (mapping != NULL) return remember(node, mapping, offset, bytes, owner);
        lu__span_uncharge(more);
    }
    node_end(node);
    return NULL;
}

/* ---------------------------------------------------------------- blocks that are there */

static struct lu__huge entry_of(const struct lu__skip_node *node) {
    return (struct lu__huge){node->block, node->bytes, node->owner, node->offset};
}

static bool find_locked(const void *address, struct lu__huge *out) {
    const struct lu__skip_node *node = lu__skip_floor(&blocks, (uintptr_t)address);
    bool found = node != NULL && (uintptr_t)address - (uintptr_t)node->block < node->bytes;
    if (found) *out = entry_of(node);
    return found;
}

enum lu__huge_place lu__huge_find(const void *address, struct lu__huge *out) {
    if (__atomic_load_n(&lu__span_figures.huge_blocks, __ATOMIC_RELAXED) == 0) return LU_HUGE_NONE;
    if (lu__lock_is_mine(&huge_lock)) { /* in a signal handler: it would wait for ever */
        return find_locked(address, out) ? LU_HUGE_FOUND : LU_HUGE_UNKNOWN;
    }
    bool entered = lu__inside_enter(); /* else in such a handler, above some other lock */
    lu__lock_acquire_above(&huge_lock);
    bool found = find_locked(address, out);
    lu__lock_release(&huge_lock);
    if (entered) lu__inside_leave();
    return found ? LU_HUGE_FOUND : LU_HUGE_NONE;
}

bool lu__huge_free(void *block) {
    lu__lock_acquire(&huge_lock);
    struct lu__skip_node *node = forget_locked(block);
    lu__lock_release(&huge_lock);
    if (node == NULL) return false;
    size_t offset = node->offset, bytes = node->bytes;
    node_end(node);
    __atomic_fetch_add(&lu__span_figures.returned, bytes, __ATOMIC_RELAXED);
    lu__span_uncharge(bytes);
    unmap((char *)block - offset, mapping_bytes(offset, bytes));
    return true;
}

/* Take the block out of the list, prepared to become `bytes`; *was_below says what it is now. */
static struct lu__skip_node *take_out(const void *block, size_t bytes, bool *was_below) {
    lu__lock_acquire(&huge_lock);
    struct lu__skip_node *node = forget_locked(block);
    if (node != NULL) {
        *was_below = node->below;
        if (prepare(node, is_below(bytes)) == NULL) {
            count_blocks(lu__span_figures.huge_blocks + 1);
            lu__skip_insert(&blocks, node);
            node = NULL;
        }
    }
    lu__lock_release(&huge_lock);
    return node;
}

static void put_back(struct lu__skip_node *node, bool was_below) {
    lu__lock_acquire(&huge_lock);
    below_count += (size_t)was_below - (size_t)node->below;
    node->below = was_below;
    lu__lock_release(&huge_lock);
    (void)remember(node, node->block - node->offset, node->offset, node->bytes, node->owner);
}

/* Resize the mapping of the block that was found. NULL: it is as it was. */
static void *remap(const struct lu__huge *entry, size_t bytes) {
    size_t offset = entry->offset, old = entry->bytes;
    if (bytes > old && !lu__span_charge(bytes - old)) return NULL;
    bool was_below = false;
    struct lu__skip_node *node = take_out(entry->block, bytes, &was_below);
    void *moved;
    if (node == NULL ||
        resize(entry->block - offset, mapping_bytes(offset, old), mapping_bytes(offset, bytes),
               bytes > old ? bytes - old : 0, &moved) != 0) {
        if (bytes > old) lu__span_uncharge(bytes - old);
        if (node != NULL) put_back(node, was_below);
        return NULL;
    }
    if (bytes < old) lu__span_uncharge(old - bytes);
    return remember(node, moved, offset, bytes, entry->owner);
}

void *lu__huge_resize(void *block, size_t size) {
    size_t bytes = lu__align_up(size, LU_OS_PAGE);
    struct lu__huge entry;
    if (bytes < size || lu__huge_find(block, &entry) != LU_HUGE_FOUND || entry.block != block) {
        return NULL;
    }
    if (bytes == entry.bytes) return block;
    if (bytes > ADDRESSES) return NULL;
    return remap(&entry, bytes);
}

bool lu__huge_next(const struct heap *owner, uintptr_t *from, struct lu__huge *out) {
    const struct lu__skip_node *node;
    bool found = false, entered = lu__inside_enter();
    do {
        lu__lock_acquire(&huge_lock);
        node = lu__skip_ceiling(&blocks, *from);
        for (uint32_t looked = 0; node != NULL && !found && looked < ROUND; looked++) {
            found = node->owner == owner;
            if (found) *out = entry_of(node);
            *from = (uintptr_t)node->block + 1;
            node = node->next[0];
        }
        lu__lock_release(&huge_lock);
    } while (node != NULL && !found);
    if (entered) lu__inside_leave();
    return found;
}

void lu__huge_fork_child(void) {
    if (lu__lock_is_mine(&huge_lock)) return; /* its holder goes on */
    if (!lu__lock_fork_child(&huge_lock)) return;
    size_t count = 0, below = 0; /* the lost holder may have changed the list only */
    const struct lu__skip_node *node = lu__skip_ceiling(&blocks, 0);
    for (; node != NULL; node = node->next[0], count++) below += node->below;
    count_blocks(count);
    below_count = below;
}

void lu__huge_unload(void) {
    lu__skip_unmap(&blocks);
}
