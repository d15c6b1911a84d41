/*
 * at_limit.c - a program that takes all the memory that it may have, and goes on.
 *
 *     at_limit LEAST MOST     fills memory with written blocks until NULL, which must come with
 *                             ENOMEM and after LEAST to MOST MiB; frees, and fills again
 *
 * Run under LUCID_OPTIONS=limit:..., in a memory control group or without: a limit that is too high
 * there ends in the kernel's killing the process.
 */
#include <pthread.h>

#include "check.h"

enum { THREADS = 4 };

/* Linked through themselves: a table of them would be memory that is not heap. */
struct block {
    struct block *next;
    size_t size;
    unsigned char bytes[];
};

/* Blocks of about 2^bits bytes until there is no memory, or `bytes_most` are had. */
static struct block *fill(uint64_t seed, unsigned bits, size_t bytes_most, size_t *bytes) {
    uint64_t state = seed;
    struct block *first = NULL;
    *bytes = 0;
    while (*bytes < bytes_most) {
        size_t size = ((size_t)1 << (bits - 1)) + check_random(&state) % ((size_t)1 << (bits - 1));
        errno = 0;
        struct block *block = malloc(size);
        if (block == NULL) {
            CHECK_EQ(errno, ENOMEM);
            break;
        }
        block->next = first;
        block->size = size;
        check_fill(block->bytes, size - sizeof *block, size);
        first = block;
        *bytes += size;
    }
    return first;
}

static void empty(struct block *first) {
    while (first != NULL) {
        struct block *next = first->next;
        CHECK_FILLED(first->bytes, first->size - sizeof *first, first->size);
        free(first);
        first = next;
    }
}

/* Threads that fill and end: their heaps, pooled with free memory in them, must not count. */
static void *thread_body(void *arg) {
    size_t number = (size_t)(uintptr_t)arg, bytes;
    empty(fill(number, 9 + (unsigned)number, SIZE_MAX, &bytes));
    return NULL;
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    check_small_pages(); /* of a huge page in a control group also parts given back may count */
    CHECK_THAT(argc >= 3, "usage: at_limit LEAST MOST");
    size_t least = strtoul(argv[1], NULL, 10), most = strtoul(argv[2], NULL, 10), bytes;
    static const unsigned bits[] = {10, 16, 20, 7, 12, 26};
    for (size_t i = 0; i < CHECK_COUNT_OF(bits); i++) {
        struct block *first = fill(i, bits[i], 2 * most * CHECK_MIB, &bytes);
        /* Of blocks of up to 64 MiB the last may leave as much unused. */
        size_t slack = bits[i] == 26 ? 64 : 0;
        CHECK_THAT(bytes / CHECK_MIB + slack >= least && bytes / CHECK_MIB <= most,
                   "%zu MiB in blocks of up to 2^%u bytes, not %zu to %zu", bytes / CHECK_MIB,
                   bits[i], least, most);
        empty(first);
        check_passed("  %zu MiB in blocks of up to 2^%u bytes, then NULL", bytes / CHECK_MIB,
                     bits[i]);
    }
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, thread_body, (void *)i), 0);
    }
    for (size_t i = 0; i < THREADS; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
    empty(fill(7, 18, 2 * most * CHECK_MIB, &bytes));
    CHECK_THAT(bytes / CHECK_MIB >= least, "only %zu MiB when other threads have ended",
               bytes / CHECK_MIB);
    check_passed("filled up to the limit and emptied, in all sizes, also by threads");
    return 0;
}
