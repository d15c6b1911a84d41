/* surface.h - what the files of the malloc(3) interface share, and what start-up and fork call. */
#ifndef LU_SURFACE_H
#define LU_SURFACE_H

#include "base/base.h"
#include "engine/engine.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>

/* Called once at start, after lu__options_init and when the engine can be used: passes the options
 * of the API layer to the engine, now and whenever the program changes them. */
void lu__surface_init(void);
/* The constructor of the library. malloc.c refers to it, so that a static link includes it. */
void lu__at_load(void);

/* At load, last: see unload.c. */
void lu__unload_begin(void);

/* Puts the object caches in order in a process that is a copy (lu__process_order_fn), whatever its
 * other threads were doing with them. */
void lu__cache_fork_child(bool alone);

/* The functions of the same names without lu__, as in their manual pages. mallopt.c, info.c. They
 * are glibc's own, and so are the types and constants in their interfaces. */
#ifdef __GLIBC__
int lu__mallopt(int parameter, int value);
struct mallinfo2 lu__mallinfo2(void);
struct mallinfo lu__mallinfo(void);
void lu__malloc_stats(void);
int lu__malloc_info(int options, FILE *stream);
#endif

/* A block with any alignment that is a power of two; NULL with ENOMEM. Refused if a sum of the two
 * could overflow in the engine. malloc.c. */
void *lu__alloc_aligned_checked(size_t alignment, size_t size);

#endif
