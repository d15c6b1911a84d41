/*
 * broken.c - a library to preload whose malloc ends the program, with words that are no text.
 */
#include <stdlib.h>
#include <unistd.h>

static void refuse(void) {
    static const char words[] = "broken: I refuse | \x01\xff\xfe\n";
    ssize_t written = write(STDERR_FILENO, words, sizeof words - 1);
    (void)written;
    abort();
}

void *malloc(size_t size) {
    (void)size;
    refuse();
    return NULL;
}

void *calloc(size_t count, size_t size) {
    (void)count, (void)size;
    refuse();
    return NULL;
}
