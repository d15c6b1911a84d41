/*
 * silent.c - a program that never names a malloc function, but whose C library allocates for it:
 * it must run on lucid all the same. Its only reference to lucid is weak, so that it is not the
 * reason why the linker takes the library.
 */
#include <stdbool.h>
#include <stdio.h>

char *strdup(const char *text);
bool lu_owns(const void *address) __attribute__((weak));

int main(void) {
    const char *copy = strdup("allocated inside the C library");
    if (copy == NULL || lu_owns == NULL || !lu_owns(copy)) {
        fprintf(stderr, "strdup: block %p is not of lucid\n", (const void *)copy);
        return 1;
    }
    return 0;
}
