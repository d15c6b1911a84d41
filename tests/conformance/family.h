/*
 * family.h - every function of the malloc family that gives a block, in one table, each as a
 * function of the size alone. A test that loops over the table cannot forget one.
 */
#ifndef FAMILY_H
#define FAMILY_H

#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>

static void *family_malloc(size_t size) {
    return malloc(size);
}
static void *family_calloc_one(size_t size) {
    return calloc(1, size);
}
static void *family_calloc_many(size_t size) {
    return calloc(size, 1);
}
static void *family_realloc(size_t size) {
    return realloc(NULL, size);
}
static void *family_reallocarray_one(size_t size) {
    return reallocarray(NULL, 1, size);
}
static void *family_reallocarray_many(size_t size) {
    return reallocarray(NULL, size, 1);
}
static void *family_aligned_alloc(size_t size) {
    return aligned_alloc(64, size);
}
static void *family_memalign(size_t size) {
    return memalign(1024, size);
}
static void *family_valloc(size_t size) {
    return valloc(size);
}
static void *family_pvalloc(size_t size) {
    return pvalloc(size);
}
/* posix_memalign tells of errors by its result; here as the others do. */
static void *family_posix_memalign(size_t size) {
    void *block = NULL;
    int error = posix_memalign(&block, 256, size);
    if (error != 0) {
        errno = error;
        return NULL;
    }
    return block;
}

static const struct family {
    const char *name;
    void *(*alloc)(size_t size);
    size_t alignment; /* that the block must have */
    bool zeroed;
} family_table[] = {
    {"malloc(n)", family_malloc, 8, false},
    {"calloc(1, n)", family_calloc_one, 8, true},
    {"calloc(n, 1)", family_calloc_many, 8, true},
    {"realloc(NULL, n)", family_realloc, 8, false},
    {"reallocarray(NULL, 1, n)", family_reallocarray_one, 8, false},
    {"reallocarray(NULL, n, 1)", family_reallocarray_many, 8, false},
    {"aligned_alloc(64, n)", family_aligned_alloc, 64, false},
    {"memalign(1024, n)", family_memalign, 1024, false},
    {"posix_memalign(256, n)", family_posix_memalign, 256, false},
    {"valloc(n)", family_valloc, 4096, false},
    {"pvalloc(n)", family_pvalloc, 4096, false},
};

#define FAMILY_COUNT (sizeof family_table / sizeof family_table[0])

#endif
