/*
 * plain.c - a plain C program for Valgrind: it allocates, resizes and frees everything it uses, in
 * one thread and in four, and reads only what it wrote.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIVE = 200, ROUNDS = 3000 };

static void use(unsigned seed) {
    char *blocks[LIVE] = {NULL};
    size_t sizes[LIVE] = {0};
    unsigned state = seed;
    for (int round = 0; round < ROUNDS; round++) {
        state = state * 1103515245u + 12345u;
        size_t i = (state >> 8) % LIVE;
        size_t size = (state >> 4) % (round % 100 == 0 ? 300000 : 2000) + 1;
        if (blocks[i] != NULL && blocks[i][sizes[i] - 1] != (char)i) {
            fprintf(stderr, "plain: contents lost\n");
            exit(1);
        }
        if (round % 3 == 0) {
            blocks[i] = realloc(blocks[i], size);
        } else {
            free(blocks[i]);
            blocks[i] = round % 3 == 1 ? malloc(size) : calloc(1, size);
        }
        if (blocks[i] == NULL) exit(1);
        memset(blocks[i], (int)i, size);
        sizes[i] = size;
    }
    for (size_t i = 0; i < LIVE; i++) free(blocks[i]);
}

static void *body(void *arg) {
    use(*(unsigned *)arg);
    return NULL;
}

int main(void) {
    pthread_t threads[4];
    unsigned seeds[4] = {1, 2, 3, 4};
    use(0);
    for (int i = 0; i < 4; i++) {
        if (pthread_create(&threads[i], NULL, body, &seeds[i]) != 0) return 1;
    }
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    void *aligned = NULL;
    if (posix_memalign(&aligned, 4096, 10000) != 0) return 1;
    memset(aligned, 1, 10000);
    free(aligned);
    puts("plain: done");
    return 0;
}
