/*
 * worker.h - a program that lives on a store and can be killed at any moment, and the judge of what
 * it left.
 *
 * A worker's memory of what it did (struct worker) lies in memory shared with the judge. Before an
 * operation it writes down what it is going to do, after it what came of it. So when it was killed
 * the judge knows which blocks must be there with which contents, and that at most one operation
 * is in doubt: that must have happened as a whole or not at all.
 */
#ifndef WORKER_H
#define WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lucid/lucid.h"

enum {
    WORKER_SLOTS = 48,
    WORKER_TABLED = 16 /* of them live in a table inside the store: alloc_to, free_from */
};

enum worker_op {
    WORKER_IDLE,
    WORKER_MALLOC,
    WORKER_CALLOC,
    WORKER_FREE,
    WORKER_REALLOC,
    WORKER_ALLOC_TO,
    WORKER_FREE_FROM
};

struct worker_slot {
    uint64_t handle; /* 0: empty */
    uint64_t size, seed;
};

struct worker {
    struct worker_slot slots[WORKER_SLOTS];
    uint64_t table;  /* handle of the table in the store */
    uint64_t random; /* state of the generator           */
    uint64_t completed;
    size_t largest; /* sizes go up to it                */
    /* The operation in progress. */
    uint32_t op, slot;
    struct worker_slot intended; /* size and seed                  */
    struct worker_slot result;   /* good when it is done           */
    uint32_t done;               /* 1: the store has done it, 2: its block is filled too */
};

uint64_t worker_random(uint64_t *state);
/* A pattern that tells seed and place, and whether it is there. */
void worker_fill(void *block, size_t size, uint64_t seed);
bool worker_is_filled(const void *block, size_t size, uint64_t seed);

/* Begin with an empty memory; makes the table in the store. */
void worker_init(struct worker *worker, lu_store_t *store, uint64_t seed, size_t largest);
/* One random operation. Ends the process with a message if a block is damaged or an operation fails
 * that must not. Running out of memory is no failure. */
void worker_step(struct worker *worker, lu_store_t *store);
/* Judge the store after the workers are gone, settle what was in doubt and free what nobody knows.
 * False with a message on stderr if anything is wrong. Every live block of the store must be one of
 * the workers', but for `others`. */
bool worker_judge(struct worker *workers, size_t count, lu_store_t *store, size_t others);

#endif
