/* unload_module.c - a shared object that contains lucid, for unload.c. */
#include <stddef.h>
#include <string.h>

#include "lucid/lucid.h"

#define SHOWN __attribute__((visibility("default")))

SHOWN void *module_make(size_t size);
SHOWN void module_end(void *block);
SHOWN void module_work(unsigned seed);

static void *kept_to_the_end;

SHOWN void *module_make(size_t size) {
    void *block = lu_malloc(size);
    if (block != NULL) memset(block, 0x5a, size);
    return block;
}

SHOWN void module_end(void *block) {
    lu_free(block);
}

/* Blocks of all kinds, in the thread's heap, a heap of our own, and mappings. */
SHOWN void module_work(unsigned seed) {
    enum { COUNT = 100 };
    void *blocks[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        seed = seed * 1664525u + 1013904223u;
        blocks[i] = module_make((seed >> 16) % (i % 32 != 0 ? 1000 : 100000));
    }
    for (unsigned i = 0; i < COUNT; i++) lu_free(blocks[i]);
    lu_free(lu_malloc((size_t)33 << 20));
    lu_heap_t *heap = lu_heap_create(LU_HEAP_SHARED);
    if (heap != NULL && lu_heap_malloc(heap, 1000) != NULL) lu_heap_destroy(heap);
}

__attribute__((constructor)) static void load(void) {
    kept_to_the_end = module_make(5000);
}

/* Run after the library's own, if that is not the last. */
__attribute__((destructor(101))) static void unload(void) {
    lu_free(lu_realloc(kept_to_the_end, 100000));
}
