/*
 * own_break.c - a program that moves the process's break itself, under a malloc that uses it too.
 *
 * Its own memory and the blocks of malloc stay apart. Afterwards malloc may have no way to grow:
 * then it gives NULL with ENOMEM, and what it has can be freed and had again.
 */
#include "check.h"

enum { BLOCKS = 100, BLOCK = 50000, OWN = 4096 };

static unsigned char *blocks[BLOCKS];

int main(int argc, char **argv) {
    check_begin(argc, argv);
    char *start = sbrk(0);
    CHECK(start != (void *)-1);
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(BLOCK);
        CHECK(blocks[i] != NULL);
        check_fill(blocks[i], BLOCK, i);
    }
    CHECK_THAT((char *)sbrk(0) > start, "this malloc does not use the break");
    unsigned char *own = sbrk(OWN);
    CHECK(own != (void *)-1);
    check_fill(own, OWN, 7);
    for (size_t i = 0; i < BLOCKS; i++) CHECK_FILLED(blocks[i], BLOCK, i);

    size_t refused = 0;
    for (size_t i = 0; i < BLOCKS; i++) {
        errno = 0;
        unsigned char *more = malloc(2 * BLOCK);
        if (more == NULL) {
            CHECK_EQ(errno, ENOMEM);
            refused++;
        } else {
            check_fill(more, 2 * BLOCK, i);
        }
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        CHECK_FILLED(blocks[i], BLOCK, i);
        free(blocks[i]);
    }
    for (size_t i = 0; i < BLOCKS / 2; i++) {
        blocks[i] = malloc(BLOCK);
        CHECK(blocks[i] != NULL);
        check_fill(blocks[i], BLOCK, i);
    }
    CHECK_FILLED(own, OWN, 7);
    check_passed("%d bytes of break beside the heap: nothing damaged, %zu of %d blocks refused",
                 (int)OWN, refused, (int)BLOCKS);
    return 0;
}
