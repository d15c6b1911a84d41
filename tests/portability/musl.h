/* musl.h - included in front of conformance programs that are compiled for musl: what these use of
 * glibc's malloc and musl does not have. lucid has pvalloc everywhere; on musl's own malloc it is
 * made of valloc. */
#ifndef MUSL_H
#define MUSL_H

#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

static inline int malloc_trim(size_t pad) {
    (void)pad;
    return 0;
}

__attribute__((weak)) extern void *pvalloc(size_t size);
static inline void *musl_pvalloc(size_t size) {
    size_t page = (size_t)getpagesize();
    if (pvalloc != NULL) return pvalloc(size);
    return valloc(size > (size_t)-1 - page ? size : (size + page - 1) & ~(page - 1));
}
#define pvalloc musl_pvalloc

#endif
