/*
 * scope.c - scoped heaps: blocks that end together, with a C scope.
 *
 *     scope.chunks --> [chunk | blocks ... |next      end]     newest bump chunk
 *                        |                 '- free part -'
 *                        v
 *                      [chunk | one large block]               chunks of large requests, and
 *                        v                                     older bump chunks, in any order
 *                      [chunk | blocks ...           ] --> NULL
 *
 * A block is cut from the free part of the first chunk by moving `next` up; nothing is kept about a
 * single block. When the first chunk is too full a new one is put before it, twice as large as the
 * one before, from 4 KiB to 64 KiB, so that a scope of few blocks costs little and one of many
 * calls the engine rarely. A request that would waste much of a chunk gets a chunk of its own,
 * placed behind the first, so that the free part of the first stays in use.
 *
 * Invariant: chunks == NULL exactly if next == end == NULL; else next <= end lie in the first
 * chunk. A scope belongs to one thread at a time: no lock. The chunks are ordinary blocks of the
 * engine.
 */
#include "base/base.h"
#include "engine/engine.h"
#include "lucid/lucid.h"

#include <errno.h>

enum { FIRST_BYTES = 4 << 10, MOST_BYTES = 64 << 10, LARGE_BYTES = MOST_BYTES / 4 };
#define ALIGNMENT ((size_t)16) /* fits any type, and is that of the engine's larger blocks */

/* At the start of every chunk; its size keeps what follows aligned for any type. */
struct chunk {
    struct chunk *older;
    size_t bytes; /* of the chunk, this header included */
};
_Static_assert(sizeof(struct chunk) % ALIGNMENT == 0, "blocks follow the header");

/* A chunk that is in no scope yet; NULL with ENOMEM. */
static struct chunk *chunk_create(size_t bytes) {
    struct chunk *chunk = lu__engine_alloc(bytes);
    if (chunk != NULL) chunk->bytes = bytes;
    return chunk;
}

/* Size of the next bump chunk; a first chunk above MOST_BYTES is one for a large request. */
static size_t next_bytes(const struct chunk *first) {
    if (first == NULL || first->bytes > MOST_BYTES) return FIRST_BYTES;
    return LU_MIN(LU_MAX(first->bytes * 2, (size_t)FIRST_BYTES), (size_t)MOST_BYTES);
}

static char *align_pointer(char *at, size_t alignment) {
    size_t past = (uintptr_t)at & (alignment - 1);
    return past == 0 ? at : at + (alignment - past);
}

/* A chunk for one block, behind the first. */
static void *alloc_large(struct lu_scope *scope, size_t alignment, size_t bytes) {
    struct chunk *chunk = chunk_create(bytes);
    if (chunk == NULL) return NULL;
    struct chunk *first = scope->chunks;
    if (first == NULL) { /* then it is the first itself, with no free part */
        chunk->older = NULL;
        scope->chunks = chunk;
        scope->next = scope->end = (char *)chunk + bytes;
    } else {
        chunk->older = first->older;
        first->older = chunk;
    }
    return align_pointer((char *)(chunk + 1), alignment);
}

/* The free part of the first chunk is too small, or there is none. */
static LU_NOINLINE void *alloc_slow(struct lu_scope *scope, size_t alignment, size_t size) {
    size_t need = sizeof(struct chunk) + (alignment > ALIGNMENT ? alignment - ALIGNMENT : 0);
    if (__builtin_add_overflow(need, size, &need)) {
        errno = ENOMEM;
        return NULL;
    }
    size_t bytes = next_bytes(scope->chunks);
    if (need > bytes || need > LARGE_BYTES) return alloc_large(scope, alignment, need);
    struct chunk *chunk = chunk_create(bytes);
    if (chunk == NULL) return NULL;
    chunk->older = scope->chunks;
    scope->chunks = chunk;
    char *block = align_pointer((char *)(chunk + 1), alignment);
    scope->next = block + size;
    scope->end = (char *)chunk + bytes;
    return block;
}

void *lu_scope_aligned_alloc(lu_scope_t *scope, size_t alignment, size_t size) {
    if (LU_UNLIKELY(!lu__is_pow2(alignment))) {
        errno = EINVAL;
        return NULL;
    }
    size += size == 0; /* blocks of size 0 are different blocks too */
    size_t room = (size_t)(scope->end - scope->next);
    size_t gap = -(uintptr_t)scope->next & (alignment - 1);
    if (LU_UNLIKELY(gap > room || size > room - gap)) return alloc_slow(scope, alignment, size);
    char *block = scope->next + gap;
    scope->next = block + size;
    return block;
}

void *lu_scope_alloc(lu_scope_t *scope, size_t size) {
    return lu_scope_aligned_alloc(scope, ALIGNMENT, size);
}

void lu_scope_end(lu_scope_t *scope) {
    struct chunk *chunk = scope->chunks;
    *scope = (lu_scope_t)LU_SCOPE_INIT;
    while (chunk != NULL) {
        struct chunk *older = chunk->older;
        lu__engine_free(chunk);
        chunk = older;
    }
}
