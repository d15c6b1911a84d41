/*
 * setup.c - the first heap of the process, and what each new one has besides: lu__setup_ops.
 *
 * Hardening and sampling are independent but for this: where harden is 2 and nothing else is said,
 * some allocations are samples, and of hardened threads every allocation is counted as it comes,
 * since they have no fast paths.
 */
#include "base/options.h"
#include "engine/engine.h"
#include "engine/fast.h"
#include "harden/harden.h"
#include "heap/ops.h"
#include "os/os.h"
#include "sample/guard.h"
#include "sample/sampler.h"

#define HARDENED_MEAN 1024u /* with harden:2, where nothing else is said */
#define HARDENED_BURST 256u /* and the first so many allocations of the process */

void lu__engine_see_options(void) {
    lu__options_init(); /* linkers do not agree on the order of our constructors */
    lu__harden_init();
    LU_SET(lu__long_ways, lu__harden.on);
    lu__thread_see_ways();
}

static void first(void) {
    lu__engine_see_options();
    bool samples = lu__harden.level == 2;
    uint64_t mean = (uint64_t)lu__option(LU_OPT_GUARD_SAMPLE);
    if (mean == 0 && samples) mean = HARDENED_MEAN;
    if (mean != 0 && lu__guard_make(lu__os_random())) {
        lu__sampler_init(mean, samples ? HARDENED_BURST : 0, lu__harden.on);
    }
}

static void give_hard(struct heap *heap) {
    heap->hard = lu__hard_make();
    heap->short_ways = heap->hard != NULL && lu__harden.short_ways;
}

static bool made(struct heap *heap, enum heap_kind kind) {
    if (lu__harden.on) {
        give_hard(heap);
        if (heap->hard == NULL) return false;
    }
    if (kind == LU_HEAP_OF_THREAD) lu__sampler_make(heap);
    return true;
}

static void entered(struct heap *heap) {
    /* Without, it was made before there were options to read. */
    if (heap->hard == NULL) give_hard(heap);
}

const struct lu__setup_ops lu__setup_ops = {.first = first, .made = made, .entered = entered};
