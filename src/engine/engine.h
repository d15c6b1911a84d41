/*
 * engine.h - the contract between the malloc(3) surface (src/api) and the engine under it.
 *
 * The surface knows the rules of C, POSIX, C++ and glibc; the engine knows memory.
 *
 * Common rules. Sizes are bytes. Functions that return a block return NULL with errno = ENOMEM
 * when there is no memory, and nothing is lost. Blocks of 16 bytes and more are aligned to 16,
 * smaller ones to 8. All functions are thread safe and keep errno on success. Misuse (a pointer
 * that is no live block) ends in lu__violation with the name of the call given.
 */
#ifndef LU_ENGINE_H
#define LU_ENGINE_H

#include "base/base.h"

/* Largest request: PTRDIFF_MAX, as glibc. Above it every function gives NULL and ENOMEM. */
#define LU_ENGINE_MAX ((size_t)PTRDIFF_MAX)

void *lu__engine_alloc(size_t size);        /* size 0: a block of the smallest class */
void *lu__engine_alloc_zeroed(size_t size); /* all usable bytes asked for are 0      */
/* `alignment` is a power of two of any size. */
void *lu__engine_alloc_aligned(size_t alignment, size_t size);
void lu__engine_free(void *block); /* NULL is fine */
/* As lu__engine_free, and checks that `size` and `alignment` (0: not said) could have given it. */
void lu__engine_free_sized(void *block, size_t alignment, size_t size, const char *call);
/* Resize `block` (not NULL) to `size` (not 0); on failure NULL, and the block stays as it is. */
void *lu__engine_resize(void *block, size_t size);
size_t lu__engine_usable(const void *block, const char *call); /* not NULL */
size_t lu__engine_good_size(size_t size);                      /* 0 if too large */
bool lu__engine_owns(const void *address);

/* Return what can be returned to the system now; bytes. */
size_t lu__engine_purge(void);

/* Filling, for M_PERTURB. 0 stops it; after any other value the low byte of it fills every block as
 * it is freed, and its complement every block that alloc and alloc_aligned give and every byte that
 * resize adds by moving a block. alloc_zeroed is untouched: its bytes are 0. Blocks that are free
 * or live at the call stay as they are. While it is 0 the fast path pays nothing for this. */
void lu__engine_set_perturb(int value);

/* Heed what the options say of hardening: before the first heap; and once the library is loaded, as
 * a program that allocates before there is an environment has heaps without it until then. */
void lu__engine_see_options(void);

/* In a process that is a copy of another (lu__process_order_fn), after fork(2) or any other way. */
void lu__engine_fork_child(bool alone);

/* True if a handler of signals is installed sooner or later, which another one may come to call:
 * then our code must stay for ever. Known once there are options. */
bool lu__engine_must_stay(void);
/* The module that the library is part of is unloaded, and the process goes on: give back what is
 * not live. Nothing of the library may be called afterwards. */
void lu__engine_unload(void);

/* malloc or calloc, and free of a block that is not NULL, when every shorter way is closed. */
void *lu__alloc_long(size_t size, bool zeroed);
void lu__free_long(void *block);

#endif
