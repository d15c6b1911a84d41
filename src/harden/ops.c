/*
 * ops.c - what a hardened heap does instead of what plain ones do: lu__hard_ops. See heap/ops.h for
 * each.
 */
#include "harden/harden.h"

#include "harden/parts.h"

static size_t sweep_all(struct heap *heap, bool again) {
    (void)again;
    lu__hard_sweep(heap);
    return 0; /* what spans give is counted when their runs are purged */
}

static enum lu__block_is find(struct span *span, const void *pointer, struct lu__block *block) {
    if (__atomic_load_n(&span->owner, __ATOMIC_RELAXED) == NULL) return LU_IS_WILD; /* ended */
    enum lu__block_is state = lu__hard_find(span, pointer, &block->at);
    block->bytes = state == LU_IS_LIVE ? lu__hard_usable(span, block->at)
                                       : lu__hard_block_bytes(span);
    return state;
}

static bool waits(const struct span *span) {
    return span->queued != 0 && span->state != LU_SPAN_PARTIAL;
}

static bool look(struct span *span, struct lu__look *look) {
    uint32_t size = lu__class_size[span->class_id];
    uintptr_t start = (uintptr_t)lu__span_start(span), block;
    while (look->next * (size_t)size < span->limit) {
        if (look->found == LU_LOOK_PART) return true;
        uintptr_t at = start + (size_t)look->next++ * size;
        if (lu__hard_find(span, (void *)at, &block) != LU_IS_LIVE) continue;
        look->live[look->found].block = (void *)at;
        look->live[look->found++].bytes = lu__hard_usable(span, at);
    }
    return false;
}

static uint32_t live(const struct span *span) {
    return lu__hard_count(span).live;
}

const struct lu__heap_ops lu__hard_ops = {
    .alloc = lu__hard_alloc,
    .sweep_begin = lu__hard_sweep_begin,
    .sweep_some = lu__hard_sweep_some,
    .sweep_all = sweep_all,
    .end_empty = lu__hard_sweep,
    .thread_exit = lu__hard_thread_exit,
    .make_whole = lu__hard_make_whole,
    .clear = lu__hard_reset,
    .find = find,
    .free = lu__hard_free,
    .resize = lu__hard_resize,
    .take_in = lu__hard_take_in,
    .waits = waits,
    .make_span_whole = lu__hard_make_span_whole,
    .look = look,
    .live = live,
    .release = lu__hard_release,
};
