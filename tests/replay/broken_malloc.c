/*
 * broken_malloc.c - a malloc with faults, to see that a replay finds them.
 *
 * It hands out memory in turn and takes none back. The size asked for decides what goes wrong, so a
 * program that never asks for these sizes runs well:
 *
 *     4001   the block begins in the middle of the one before it
 *     4002   calloc does not clear
 *     4003   realloc does not copy
 *     4004   the process is killed
 *     4005   no memory
 *     4006   memalign does not align
 */
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

void *malloc(size_t size);
void *calloc(size_t count, size_t size);
void *realloc(void *block, size_t size);
void *memalign(size_t align, size_t size);
void free(void *block);

#define ROOM ((size_t)64 << 20)

static char memory[ROOM] __attribute__((aligned(4096)));
static size_t next, last;

static void *take(size_t align, size_t size) {
    size_t at = (next + 16 + align - 1) / align * align; /* 16 for the size in front */
    if (size > ROOM || at > ROOM - size) return NULL;
    memcpy(memory + at - 16, &size, sizeof(size));
    last = at;
    next = at + size;
    return memory + at;
}

void *malloc(size_t size) {
    if (size == 4001 && last != 0) return memory + last + 16;
    if (size == 4004) raise(SIGKILL);
    if (size == 4005) return NULL;
    return take(16, size);
}

void *calloc(size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) return NULL;
    char *block = malloc(bytes);
    if (block != NULL && bytes == 4002) block[0] = 1;
    return block; /* never used before */
}

void *realloc(void *block, size_t size) {
    size_t before = 0;
    char *fresh = malloc(size);
    if (block == NULL || fresh == NULL) return fresh;
    memcpy(&before, (char *)block - 16, sizeof(before));
    if (size != 4003) memcpy(fresh, block, before < size ? before : size);
    return fresh;
}

void *memalign(size_t align, size_t size) {
    char *block = take(align < 16 ? 16 : align, size + 1);
    return block != NULL && size == 4006 ? block + 1 : block;
}

void free(void *block) {
    (void)block;
}
