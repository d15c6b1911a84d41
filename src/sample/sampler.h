/*
 * sampler.h - which allocation is a sample, at no cost to the fast paths.
 *
 * A heap that is sampled has a sampler. Small allocations are drawn, each as likely as any other;
 * what is done with a sample is for others to decide (guard.h).
 */
#ifndef LU_SAMPLER_H
#define LU_SAMPLER_H

#include "heap/ops.h"

/* When a heap samples; the owner's. */
struct sampler {
    uint32_t
        burst;    /* so many allocations from now on are samples: those at the start of a process */
    int64_t left; /* allocations before the next sample; 0 and below: it is due         */
    uint64_t random;
    uint32_t skip; /* allocations to let pass although it is due                */
    bool every;    /* the fast paths are off: every allocation is counted as it comes */
    uint32_t given[LU_CLASSES]; /* frees that the current span was given until it is looked at */
};

/* One allocation in about `mean` is a sample, and the first `burst` of the process. count_every:
 * threads have no fast paths. Once, before the first heap. */
void lu__sampler_init(uint64_t mean, uint32_t burst, bool count_every);
/* Give a fresh heap a sampler, if there is anything to sample and memory for it; under the pool's
 * lock. */
void lu__sampler_make(struct heap *heap);
/* In the slow path of malloc, the heap entered and with a sampler: true if this allocation of
 * `size` bytes is a sample. *in_burst: one of the first of the process. */
bool lu__sampler_draw(struct heap *heap, size_t size, bool *in_burst);
/* True or false by chance. */
bool lu__sampler_coin(struct heap *heap);

#endif
