/*
 * tell.c - the calls of a heap's sampler (heap/ops.h): out of line, so that lists are refilled with
 * the same registers whether there are samplers or not.
 */
#include "heap/ops.h"

void lu__sampler_tell_begun(struct heap *heap, struct span *span, uint32_t out) {
    lu__sampler_ops.begun(heap, span, out);
}

void lu__sampler_tell_ended(struct heap *heap, const struct span *span, uint32_t listed) {
    lu__sampler_ops.ended(heap, span, listed);
}

void lu__sampler_tell_counted(struct heap *heap, int32_t blocks) {
    lu__sampler_ops.counted(heap, blocks);
}

uint32_t lu__sampler_tell_carved(struct heap *heap, uint32_t blocks) {
    return lu__sampler_ops.carved(heap, blocks);
}

void lu__sampler_tell_renewed(struct heap *heap, struct span *span) {
    lu__sampler_ops.renewed(heap, span);
}
