/* allocator.h - the allocators that the command can put under a program, by name. */
#ifndef LUCID_ALLOCATOR_H
#define LUCID_ALLOCATOR_H

#include <stddef.h>

/* What may be asked for, for messages and help. */
#define ALLOCATOR_NAMES                                                                        \
    "lucid, glibc, jemalloc, mimalloc, tcmalloc, tcmalloc_minimal, a classic one (kr, first, " \
    "next, best, best_tree, worst, buddy, slab, dl, pt), or NAME=PATH of a library to preload"

struct allocator {
    char *name;    /* as shown                                                  */
    char *library; /* to preload: an absolute path, or the C library's soname   */
};

/* A list of them that grows; zero is an empty one. */
struct allocator_list {
    struct allocator *at;
    size_t count;
};

/* Add the allocator that `spec` means: a known name, or NAME=PATH. Dies with a message for an
 * unknown name, a library that is not found or that is no shared object, and a name twice. */
void allocator_add(struct allocator_list *list, const char *spec);
/* As allocator_add for each part of a comma-separated list. */
void allocator_add_all(struct allocator_list *list, const char *specs);
/* A file of lucid's own, built beside the command or installed in lib/lucid; the caller frees. Dies
 * if it is not found. */
char *allocator_find_part(const char *file);
/* The library that records, to be preloaded in front of any other; the caller frees. Dies if it is
 * not found. */
char *allocator_find_recorder(void);
void allocator_list_fini(struct allocator_list *list);

#endif
