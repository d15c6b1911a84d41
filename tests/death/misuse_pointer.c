/*
 * misuse_pointer.c - pointers that are no start of a live block, given to free, realloc and
 * malloc_usable_size: foreign ones, ones inside a block, and ones where no block is.
 */
#include "misuse.h"

#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SMALL = 100, MEDIUM = 10000, LARGE = 200000, HUGE = 256 << 20 };

static void give_free(void *pointer) {
    free(pointer);
}
static void give_realloc(void *pointer) {
    misuse_hidden(realloc(pointer, 500));
}
static void give_realloc_zero(void *pointer) {
    misuse_hidden(realloc(pointer, 0));
}
static void give_usable(void *pointer) {
    (void)malloc_usable_size(pointer);
}

/* ------------------------------------------------------------------ foreign ------------------ */

static void foreign(const void *pointer, void (*give)(void *)) {
    free(misuse_block(10)); /* the allocator is awake */
    misuse_says(pointer, NULL, 0);
    give(misuse_hidden(pointer));
}

static long static_words[8];

static void *mapping(void) {
    void *map = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) misuse_cannot("mmap");
    return map;
}

static void free_stack(void) {
    long words[8] = {0};
    foreign(words, give_free);
}
static void free_static(void) {
    foreign(static_words, give_free);
}
static void free_literal(void) {
    foreign("a string literal", give_free);
}
static void free_mmap(void) {
    foreign(mapping(), give_free);
}
static void free_environment(void) {
    foreign(environ[0], give_free);
}
static void free_low(void) {
    foreign((void *)8, give_free);
}
static void free_noncanonical(void) {
    foreign((void *)0xdeadbeefdeadbee0, give_free);
}
static void free_first(void) { /* nothing was ever allocated */
    misuse_says(static_words, NULL, 0);
    free(misuse_hidden(static_words));
}
static void realloc_stack(void) {
    long words[8] = {0};
    foreign(words, give_realloc);
}
static void realloc_static(void) {
    foreign(static_words, give_realloc);
}
static void realloc_mmap(void) {
    foreign(mapping(), give_realloc);
}
static void realloc_zero_stack(void) {
    long words[8] = {0};
    foreign(words, give_realloc_zero);
}
static void usable_stack(void) {
    long words[8] = {0};
    foreign(words, give_usable);
}
static void usable_static(void) {
    foreign(static_words, give_usable);
}
static void usable_mmap(void) {
    foreign(mapping(), give_usable);
}

/* ------------------------------------------------------------------ inside a block ----------- */

static void inside(size_t size, size_t offset, void (*give)(void *)) {
    char *block = misuse_block(size);
    misuse_says_of(block + offset, block);
    give(misuse_hidden(block + offset));
}

static void free_misaligned(void) {
    inside(SMALL, 1, give_free);
}
static void free_interior_small(void) {
    inside(SMALL, 16, give_free);
}
static void free_interior_medium(void) {
    inside(MEDIUM, 4096, give_free);
}
static void free_interior_large(void) {
    inside(LARGE, 16, give_free);
}
static void free_interior_slice(void) {
    inside(LARGE, 65536, give_free);
}
static void free_interior_last_slice(void) {
    inside(LARGE, 196608, give_free);
}
static void free_interior_huge(void) {
    inside(HUGE, 4096, give_free);
}
static void free_interior_huge_middle(void) {
    inside(HUGE, HUGE / 2, give_free);
}
static void free_end_of_block(void) {
    inside(SMALL, SMALL - 1, give_free);
}
static void realloc_misaligned(void) {
    inside(SMALL, 3, give_realloc);
}
static void realloc_interior_small(void) {
    inside(SMALL, 32, give_realloc);
}
static void realloc_interior_large(void) {
    inside(LARGE, 65536, give_realloc);
}
static void realloc_interior_huge(void) {
    inside(HUGE, 65536, give_realloc);
}
static void usable_misaligned(void) {
    inside(SMALL, 5, give_usable);
}
static void usable_interior_small(void) {
    inside(SMALL, 48, give_usable);
}
static void usable_interior_large(void) {
    inside(LARGE, 131072, give_usable);
}
static void usable_interior_huge(void) {
    inside(HUGE, 65536, give_usable);
}

/* The same from a thread that does not own the block. */
static void free_in_thread(void *pointer) {
    misuse_in_thread(give_free, pointer);
}
static void free_interior_remote(void) {
    inside(SMALL, 16, free_in_thread);
}

/* ------------------------------------------------------------------ where no block is -------- */

/* Behind all that was ever allocated, but in the memory that the allocator has mapped. */
static void *never_used(void) {
    bool (*owns)(const void *) = (bool (*)(const void *))misuse_symbol("lu_owns");
    uintptr_t block = (uintptr_t)misuse_block(SMALL);
    for (size_t far = (size_t)64 << 30; far >= (size_t)256 << 10; far /= 2) {
        if (owns((void *)(block + far))) return (void *)(block + far);
        if (owns((void *)(block - far))) return (void *)(block - far);
    }
    misuse_cannot("no address far from the first block belongs to the allocator");
}

static void free_wild(void) {
    void *pointer = never_used();
    misuse_says(pointer, NULL, 0);
    free(pointer);
}
static void realloc_wild(void) {
    void *pointer = never_used();
    misuse_says(pointer, NULL, 0);
    give_realloc(pointer);
}
static void usable_wild(void) {
    void *pointer = never_used();
    misuse_says(pointer, NULL, 0);
    give_usable(pointer);
}

/* In the middle of memory that was a large block and is free. */
static void free_inside_free_memory(void) {
    void *guard = misuse_block(LARGE);
    char *block = misuse_block(LARGE);
    void *other = misuse_block(LARGE);
    free(block);
    misuse_says(block + 70000 / 16 * 16, NULL, 0);
    free(misuse_hidden(block + 70000 / 16 * 16));
    free(guard);
    free(other);
}

/* In memory that was laid out for blocks of the size, but was never handed out. */
static void free_never_handed_out(void) {
    char *block = misuse_block(1008);
    misuse_says(block + (size_t)1024 * 24, NULL, 0);
    free(misuse_hidden(block + (size_t)1024 * 24));
}

const struct misuse misuse_pointer_table[] = {
    {"free-stack", free_stack},
    {"free-static", free_static},
    {"free-literal", free_literal},
    {"free-mmap", free_mmap},
    {"free-environment", free_environment},
    {"free-low", free_low},
    {"free-noncanonical", free_noncanonical},
    {"free-first", free_first},
    {"realloc-stack", realloc_stack},
    {"realloc-static", realloc_static},
    {"realloc-mmap", realloc_mmap},
    {"realloc-zero-stack", realloc_zero_stack},
    {"usable-stack", usable_stack},
    {"usable-static", usable_static},
    {"usable-mmap", usable_mmap},
    {"free-misaligned", free_misaligned},
    {"free-interior-small", free_interior_small},
    {"free-interior-medium", free_interior_medium},
    {"free-interior-large", free_interior_large},
    {"free-interior-slice", free_interior_slice},
    {"free-interior-last-slice", free_interior_last_slice},
    {"free-interior-huge", free_interior_huge},
    {"free-interior-huge-middle", free_interior_huge_middle},
    {"free-end-of-block", free_end_of_block},
    {"free-interior-remote", free_interior_remote},
    {"realloc-misaligned", realloc_misaligned},
    {"realloc-interior-small", realloc_interior_small},
    {"realloc-interior-large", realloc_interior_large},
    {"realloc-interior-huge", realloc_interior_huge},
    {"usable-misaligned", usable_misaligned},
    {"usable-interior-small", usable_interior_small},
    {"usable-interior-large", usable_interior_large},
    {"usable-interior-huge", usable_interior_huge},
    {"free-wild", free_wild},
    {"realloc-wild", realloc_wild},
    {"usable-wild", usable_wild},
    {"free-inside-free-memory", free_inside_free_memory},
    {"free-never-handed-out", free_never_handed_out},
    {NULL, NULL},
};
