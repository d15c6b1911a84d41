/*
 * worker.c - see worker.h.
 *
 * What may be in doubt, and what the judge then accepts:
 *
 *     malloc, calloc   no new block; or one that nobody knows
 *     free             the block with its contents; or none
 *     realloc          the block with its contents, and no new one; or the same place resized; or
 *                      another block that begins with its contents, and the old one gone
 *     alloc_to         the slot is 0 and there is no new block; or it holds the new block's handle
 *     free_from        the slot holds the block, with its contents; or it is 0 and the block gone
 */
#include "worker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS_MAX = 2048 };

uint64_t worker_random(uint64_t *state) { /* xorshift64* (Vigna) */
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1du;
}

static unsigned char pattern(size_t at, uint64_t seed) {
    return (unsigned char)((seed >> (at % 7 * 8)) + at * 13 + 1);
}

void worker_fill(void *block, size_t size, uint64_t seed) {
    unsigned char *bytes = block;
    for (size_t i = 0; i < size; i++) bytes[i] = pattern(i, seed);
}

bool worker_is_filled(const void *block, size_t size, uint64_t seed) {
    const unsigned char *bytes = block;
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != pattern(i, seed)) return false;
    }
    return true;
}

static void die(const char *what, uint64_t value) {
    fprintf(stderr, "worker: %s (%llu, errno %d)\n", what, (unsigned long long)value, errno);
    exit(2);
}

static void then(void) { /* stores before it come first, for whoever looks after a kill */
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static uint64_t *table_of(const struct worker *worker, lu_store_t *store) {
    return lu_store_pointer(store, worker->table);
}

void worker_init(struct worker *worker, lu_store_t *store, uint64_t seed, size_t largest) {
    memset(worker, 0, sizeof *worker);
    worker->random = seed * 2 + 1;
    worker->largest = largest;
    void *table = lu_store_calloc(store, WORKER_TABLED, sizeof(uint64_t));
    if (table == NULL) die("no table", 0);
    worker->table = lu_store_handle(store, table);
}

/* Mostly small, sometimes large. */
static size_t choose_size(struct worker *worker) {
    uint64_t random = worker_random(&worker->random);
    size_t most = random % 16 == 0 ? worker->largest : random % 4 == 0 ? 3000 : 200;
    return 1 + (random >> 16) % (most < worker->largest ? most : worker->largest);
}

static uint32_t choose_op(struct worker *worker, uint32_t slot) {
    uint64_t random = worker_random(&worker->random) >> 20;
    bool tabled = slot < WORKER_TABLED;
    if (worker->slots[slot].handle == 0) {
        return tabled ? WORKER_ALLOC_TO : random % 4 == 0 ? WORKER_CALLOC : WORKER_MALLOC;
    }
    if (tabled) return WORKER_FREE_FROM;
    return random % 2 == 0 ? WORKER_FREE : WORKER_REALLOC;
}

/* Does it; the handle of the block that there is now, 0 for none. */
static uint64_t carry_out(struct worker *worker, lu_store_t *store) {
    struct worker_slot *slot = &worker->slots[worker->slot];
    size_t size = worker->intended.size;
    void *block = NULL, *old = lu_store_pointer(store, slot->handle);
    uint64_t *entry = table_of(worker, store) + worker->slot;
    int error;
    switch (worker->op) {
    case WORKER_MALLOC:
        return lu_store_handle(store, lu_store_malloc(store, size));
    case WORKER_CALLOC:
        block = lu_store_calloc(store, 1, size);
        for (size_t i = 0; block != NULL && i < size; i++) {
            if (((char *)block)[i] != 0) die("calloc is not zero at", i);
        }
        return lu_store_handle(store, block);
    case WORKER_REALLOC:
        block = lu_store_realloc(store, old, size);
        if (block == NULL) {
            worker->intended = *slot; /* no memory: it stays as it is */
            return slot->handle;
        }
        if (!worker_is_filled(block, size < slot->size ? size : slot->size, slot->seed)) {
            die("realloc lost contents of slot", worker->slot);
        }
        return lu_store_handle(store, block);
    case WORKER_FREE:
        error = lu_store_free(store, old);
        if (error != 0) die("free failed", (uint64_t)error);
        return 0;
    case WORKER_ALLOC_TO:
        error = lu_store_alloc_to(store, entry, size);
        if (error != 0) errno = error;
        return *entry;
    default:
        error = lu_store_free_from(store, entry);
        if (error != 0 || *entry != 0) die("free_from failed", (uint64_t)error);
        return 0;
    }
}

void worker_step(struct worker *worker, lu_store_t *store) {
    uint32_t slot = (uint32_t)(worker_random(&worker->random) >> 33) % WORKER_SLOTS;
    struct worker_slot *now = &worker->slots[slot];
    if (now->handle != 0 &&
        !worker_is_filled(lu_store_pointer(store, now->handle), now->size, now->seed)) {
        die("damaged block in slot", slot);
    }
    worker->done = 0;
    worker->slot = slot;
    worker->intended.size = choose_size(worker);
    worker->intended.seed = worker_random(&worker->random);
    uint32_t op = choose_op(worker, slot);
    then();
    worker->op = op;
    then();
    uint64_t handle = carry_out(worker, store);
    worker->result = (struct worker_slot){handle, worker->intended.size, worker->intended.seed};
    then();
    worker->done = 1;
    then();
    if (handle != 0) {
        worker_fill(lu_store_pointer(store, handle), worker->result.size, worker->result.seed);
    } else if (worker->op != WORKER_FREE && worker->op != WORKER_FREE_FROM && errno != ENOMEM) {
        die("allocation failed", worker->intended.size);
    }
    then();
    worker->done = 2;
    then();
    *now = worker->result;
    then();
    worker->completed++;
    worker->op = WORKER_IDLE;
}

/* ------------------------------------------------------------------ the judge */

struct found {
    lu_store_t *store;
    bool alone; /* there was one worker */
    size_t count;
    struct {
        uint64_t handle;
        size_t usable;
        bool known;
    } blocks[BLOCKS_MAX]; /* by address */
};

static bool wrong(const char *what, uint64_t value) {
    fprintf(stderr, "judge: %s (%llu)\n", what, (unsigned long long)value);
    return false;
}

static bool collect(void *block, size_t usable, void *arg) {
    struct found *found = arg;
    if (found->count == BLOCKS_MAX) return false;
    found->blocks[found->count].handle = lu_store_handle(found->store, block);
    found->blocks[found->count].usable = usable;
    found->blocks[found->count].known = false;
    found->count++;
    return true;
}

/* The live block with that handle, now known; -1 if there is none or somebody else has it. */
static int claim(struct found *found, uint64_t handle) {
    size_t low = 0, high = found->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (found->blocks[middle].handle < handle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == found->count || found->blocks[low].handle != handle || found->blocks[low].known) {
        return -1;
    }
    found->blocks[low].known = true;
    return (int)low;
}

static bool is_intact(struct found *found, const struct worker_slot *slot, size_t at_least) {
    int at = claim(found, slot->handle);
    if (at < 0 || found->blocks[at].usable < at_least) return false;
    return worker_is_filled(lu_store_pointer(found->store, slot->handle), at_least, slot->seed);
}

/* A block that nobody knows yet, at least so large, and beginning as told. */
static int claim_unknown(struct found *found, size_t usable, size_t filled, uint64_t seed) {
    for (size_t i = 0; i < found->count; i++) {
        if (found->blocks[i].known || found->blocks[i].usable < usable) continue;
        void *block = lu_store_pointer(found->store, found->blocks[i].handle);
        if (!worker_is_filled(block, filled, seed)) continue;
        found->blocks[i].known = true;
        return (int)i;
    }
    return -1;
}

/* Is the block of this slot there? Where others were at work too, its address may be theirs by now:
 * then only its contents tell. */
static bool is_live(const struct found *found, const struct worker_slot *slot, size_t size) {
    for (size_t i = 0; i < found->count; i++) {
        if (found->blocks[i].handle != slot->handle) continue;
        if (found->alone) return true;
        return !found->blocks[i].known && found->blocks[i].usable >= size &&
               worker_is_filled(lu_store_pointer(found->store, slot->handle), size, slot->seed);
    }
    return false;
}

/* The operation in doubt, if it is one of a table. */
static bool settle_tabled(struct worker *worker, struct found *found) {
    struct worker_slot *slot = &worker->slots[worker->slot];
    uint64_t *entry = table_of(worker, found->store) + worker->slot;
    if (worker->op == WORKER_FREE_FROM) {
        if (*entry == 0) {
            bool gone = !is_live(found, slot, slot->size);
            slot->handle = 0;
            return gone || wrong("free_from: the block is there without its slot", worker->slot);
        }
        return (*entry == slot->handle && is_intact(found, slot, slot->size)) ||
               wrong("free_from: the slot is there without its block", worker->slot);
    }
    slot->handle = 0;
    if (*entry == 0) return true;
    int at = claim(found, *entry);
    if (at < 0 || found->blocks[at].usable < worker->intended.size) {
        return wrong("alloc_to: the slot is there without its block", worker->slot);
    }
    return lu_store_free_from(found->store, entry) == 0 || wrong("alloc_to: no block", *entry);
}

/* It was done, but its block may be filled in part only: it must be there, and goes. */
static bool settle_unfilled(struct worker *worker, struct found *found) {
    worker->slots[worker->slot].handle = 0;
    uint64_t handle = worker->result.handle;
    if (handle == 0) return true;
    int at = claim(found, handle);
    if (at < 0 || found->blocks[at].usable < worker->result.size) return wrong("gone", handle);
    uint64_t *entry = table_of(worker, found->store) + worker->slot;
    if (worker->op != WORKER_ALLOC_TO) {
        return lu_store_free(found->store, lu_store_pointer(found->store, handle)) == 0;
    }
    return *entry == handle && lu_store_free_from(found->store, entry) == 0;
}

/* Settle the operation in doubt; `leaks` counts blocks that nobody needs to know. */
static bool settle(struct worker *worker, struct found *found, size_t *leaks) {
    struct worker_slot *slot = &worker->slots[worker->slot];
    const uint64_t old = slot->handle;
    size_t kept = slot->size < worker->intended.size ? slot->size : worker->intended.size;
    if (worker->done == 1) return settle_unfilled(worker, found);
    switch (worker->op) {
    case WORKER_MALLOC:
    case WORKER_CALLOC:
        ++*leaks;
        return true;
    case WORKER_FREE:
        if (is_live(found, slot, slot->size)) {
            return is_intact(found, slot, slot->size) || wrong("free: contents", old);
        }
        slot->handle = 0;
        return true;
    case WORKER_REALLOC:
        if (is_live(found, slot, kept)) {
            if (!is_intact(found, slot, kept)) return wrong("realloc: contents", old);
            slot->size = kept;
            return true;
        }
        slot->handle = 0;
        int at = claim_unknown(found, worker->intended.size, kept, slot->seed);
        if (at < 0) return wrong("realloc: neither old nor new block", worker->slot);
        void *block = lu_store_pointer(found->store, found->blocks[at].handle);
        return lu_store_free(found->store, block) == 0 || wrong("realloc: new block", old);
    default:
        return settle_tabled(worker, found);
    }
}

static bool judge_one(struct worker *worker, struct found *found) {
    if (worker->op != WORKER_IDLE && worker->done == 2) {
        worker->slots[worker->slot] = worker->result;
        worker->op = WORKER_IDLE;
    }
    if (claim(found, worker->table) < 0) return wrong("no table", worker->table);
    for (uint32_t i = 0; i < WORKER_SLOTS; i++) {
        const struct worker_slot *slot = &worker->slots[i];
        if (worker->op != WORKER_IDLE && i == worker->slot) continue;
        if (i < WORKER_TABLED && table_of(worker, found->store)[i] != slot->handle) {
            return wrong("a table entry has changed", i);
        }
        if (slot->handle != 0 && !is_intact(found, slot, slot->size)) {
            return wrong("a block is gone or damaged", slot->handle);
        }
    }
    return true;
}

bool worker_judge(struct worker *workers, size_t count, lu_store_t *store, size_t others) {
    lu_store_fault_t fault;
    static struct found found;
    if (lu_store_check(store, &fault) != 0) {
        fprintf(stderr, "judge: %s\n", fault.text);
        return false;
    }
    found.store = store;
    found.alone = count == 1;
    found.count = 0;
    if (!lu_store_walk(store, collect, &found)) return wrong("walk", found.count);
    size_t leaks = 0;
    for (size_t i = 0; i < count; i++) {
        if (!judge_one(&workers[i], &found)) return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (workers[i].op != WORKER_IDLE && !settle(&workers[i], &found, &leaks)) {
            return wrong("operation in doubt", workers[i].op);
        }
        workers[i].op = WORKER_IDLE;
    }
    for (size_t i = 0; i < found.count; i++) {
        if (found.blocks[i].known) continue;
        if (others > 0) {
            others--;
        } else if (leaks > 0) {
            leaks--;
            void *block = lu_store_pointer(store, found.blocks[i].handle);
            if (lu_store_free(store, block) != 0) return wrong("leaked block", i);
        } else {
            return wrong("a block that nobody made", found.blocks[i].handle);
        }
    }
    return true;
}
