/*
 * tiny.c - the tiny process that bench_startup starts.
 *
 *     tiny            allocates and frees one block
 *     tiny report     then also writes a struct proc_memory of itself to the descriptor TINY_PIPE
 *
 * It is linked to the C library alone, so that little besides the loader and the allocator's own
 * start counts.
 */
#include "tiny.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    (void)argv;
    unsigned char *block = malloc(TINY_BLOCK);
    if (block == NULL) return 1;
    memset(block, 1, TINY_BLOCK);
    __asm__ volatile("" : : "g"(block) : "memory");
    if (block[TINY_BLOCK - 1] != 1) return 1;
    free(block);
    if (argc < 2) return 0;
    struct proc_memory memory;
    if (!proc_measure_self(&memory)) return 1;
    return write(TINY_PIPE, &memory, sizeof(memory)) == sizeof(memory) ? 0 : 1;
}
