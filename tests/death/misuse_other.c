/*
 * misuse_other.c - writes to free blocks, and sized frees with the wrong size or alignment.
 *
 * A free block holds the link of a free list in its first word. A program that writes there after
 * free must be found out when the list is next used, not led to an address of its own choosing.
 */
#include "misuse.h"

#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 60, VICTIM = 30, MANY = 3000 };

static void *blocks[COUNT];

static void allocate_and_free(size_t size, void (*free_all)(void *)) {
    for (size_t i = 0; i < COUNT; i++) blocks[i] = misuse_block(size);
    misuse_says_of(blocks[VICTIM], blocks[VICTIM]);
    free_all(NULL);
}

/* Every second block stays allocated, so that the victim's span stays in use. */
static void free_some_blocks(void *unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT; i += 2) free(blocks[i]);
}

static void free_some_in_thread(void *unused) {
    misuse_in_thread(free_some_blocks, unused);
}

static void damage(uint64_t word) {
    memcpy(misuse_hidden(blocks[VICTIM]), &word, sizeof word);
}

static void allocate_again(size_t size) {
    for (size_t i = 0; i < 2000; i++) misuse_block(size);
}

static void corrupt(size_t size, uint64_t word) {
    allocate_and_free(size, free_some_blocks);
    damage(word);
    allocate_again(size);
}

static void corrupt_text(void) {
    corrupt(64, 0x4141414141414141);
}
static void corrupt_zero(void) {
    corrupt(64, 0);
}
static void corrupt_pointer(void) {
    corrupt(64, (uintptr_t)&blocks[5]);
}
static void corrupt_one_bit(void) {
    allocate_and_free(64, free_some_blocks);
    *(unsigned char *)((char *)misuse_hidden(blocks[VICTIM]) + 5) ^= 0x10;
    allocate_again(64);
}
static void corrupt_8(void) {
    corrupt(8, 0x4141414141414141);
}
static void corrupt_5000(void) {
    corrupt(5000, 0x4141414141414141);
}
static void corrupt_calloc(void) {
    allocate_and_free(64, free_some_blocks);
    damage(7);
    for (size_t i = 0; i < 2000; i++) misuse_hidden(calloc(1, 64));
}
static void corrupt_remote(void) {
    allocate_and_free(200, free_some_in_thread);
    damage(0x4141414141414141);
    allocate_again(200);
}
/* The walk over free memory that trim makes must find the damage, or leave it to malloc. */
static void corrupt_trim(void) {
    static void *many[MANY];
    for (size_t i = 0; i < MANY; i++) many[i] = misuse_block(64);
    blocks[VICTIM] = many[MANY / 2];
    misuse_says_of(many[MANY / 2], many[MANY / 2]);
    for (size_t i = 1; i < MANY; i++) { /* some stay, not one in every page */
        if (i % 280 != 0) free(many[i]);
    }
    damage(0x4141414141414141);
    malloc_trim(0);
    for (size_t i = 0; i < 2 * MANY; i++) misuse_block(64);
}
static void end_with_damage(void *unused) {
    (void)unused;
    allocate_and_free(100, free_some_blocks);
    damage(0x4141414141414141);
}
/* The thread that owns the list ends before anybody uses it again. */
static void corrupt_then_exit(void) {
    misuse_in_thread(end_with_damage, NULL);
    for (int i = 0; i < 3; i++) allocate_again(100);
}

/* ------------------------------------------------------------------ sized frees -------------- */

typedef void sized_fn(void *block, size_t size);
typedef void aligned_sized_fn(void *block, size_t alignment, size_t size);
typedef void delete_aligned_fn(void *block, size_t size, size_t alignment);

static void sized(const char *function, size_t size, size_t wrong) {
    sized_fn *give = (sized_fn *)misuse_symbol(function);
    void *block = misuse_block(size);
    misuse_says_of(block, block);
    give(misuse_hidden(block), wrong);
}

static void sized_small(void) {
    sized("free_sized", 100, 200);
}
static void sized_smaller(void) {
    sized("free_sized", 100, 10);
}
static void sized_zero(void) {
    sized("free_sized", 100, 0);
}
static void sized_small_as_large(void) {
    sized("free_sized", 100, 1000000);
}
static void sized_large_as_small(void) {
    sized("free_sized", 1000000, 100);
}
static void sized_large(void) {
    sized("free_sized", 300000, 600000);
}
static void sized_huge(void) {
    sized("free_sized", (size_t)256 << 20, (size_t)255 << 20);
}
static void sized_impossible(void) {
    sized("free_sized", 100, SIZE_MAX);
}
static void sized_interior(void) {
    sized_fn *give = (sized_fn *)misuse_symbol("free_sized");
    char *block = misuse_block(100);
    misuse_says_of(block + 16, block);
    give(misuse_hidden(block + 16), 100);
}
static void sized_stack(void) {
    sized_fn *give = (sized_fn *)misuse_symbol("free_sized");
    long words[8] = {0};
    free(misuse_block(10));
    misuse_says(words, NULL, 0);
    give(misuse_hidden(words), sizeof words);
}
static void sized_double(void) {
    sized_fn *give = (sized_fn *)misuse_symbol("free_sized");
    void *guard = misuse_block(100), *block = misuse_block(100);
    misuse_says_of(block, block);
    give(block, 100);
    give(misuse_hidden(block), 100);
    free(guard);
}

static void aligned_sized(size_t alignment, size_t size, size_t wrong_alignment,
                          size_t wrong_size) {
    aligned_sized_fn *give = (aligned_sized_fn *)misuse_symbol("free_aligned_sized");
    void *block = misuse_hidden(aligned_alloc(alignment, size));
    if (block == NULL) misuse_cannot("no memory");
    misuse_says_of(block, block);
    give(block, wrong_alignment, wrong_size);
}

static void aligned_sized_size(void) {
    aligned_sized(64, 1024, 64, 4096);
}

/* A block that is surely not aligned to 4096. */
static void aligned_sized_alignment(void) {
    aligned_sized_fn *give = (aligned_sized_fn *)misuse_symbol("free_aligned_sized");
    void *block = misuse_block(4096);
    while (((uintptr_t)block & 65535) == 0) block = misuse_block(4096);
    misuse_says_of(block, block);
    give(misuse_hidden(block), 65536, 4096);
}

static void delete_size(void) {
    sized("_ZdlPvm", 100, 300);
}
static void delete_array_size(void) {
    sized("_ZdaPvm", 1000, 5000);
}
static void delete_large_size(void) {
    sized("_ZdlPvm", 500000, 5000);
}
static void delete_aligned_size(void) {
    delete_aligned_fn *give = (delete_aligned_fn *)misuse_symbol("_ZdlPvmSt11align_val_t");
    void *block = misuse_hidden(aligned_alloc(128, 512));
    if (block == NULL) misuse_cannot("no memory");
    misuse_says_of(block, block);
    give(block, 8192, 128);
}

const struct misuse misuse_other_table[] = {
    {"corrupt-text", corrupt_text},
    {"corrupt-zero", corrupt_zero},
    {"corrupt-pointer", corrupt_pointer},
    {"corrupt-one-bit", corrupt_one_bit},
    {"corrupt-8", corrupt_8},
    {"corrupt-5000", corrupt_5000},
    {"corrupt-calloc", corrupt_calloc},
    {"corrupt-remote", corrupt_remote},
    {"corrupt-trim", corrupt_trim},
    {"corrupt-then-exit", corrupt_then_exit},
    {"sized-small", sized_small},
    {"sized-smaller", sized_smaller},
    {"sized-zero", sized_zero},
    {"sized-small-as-large", sized_small_as_large},
    {"sized-large-as-small", sized_large_as_small},
    {"sized-large", sized_large},
    {"sized-huge", sized_huge},
    {"sized-impossible", sized_impossible},
    {"sized-interior", sized_interior},
    {"sized-stack", sized_stack},
    {"sized-double", sized_double},
    {"aligned-sized-size", aligned_sized_size},
    {"aligned-sized-alignment", aligned_sized_alignment},
    {"delete-size", delete_size},
    {"delete-array-size", delete_array_size},
    {"delete-large-size", delete_large_size},
    {"delete-aligned-size", delete_aligned_size},
    {NULL, NULL},
};
