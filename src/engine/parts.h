/*
 * parts.h - what the slow paths share: what a pointer is, and how misuse is told.
 */
#ifndef LU_ENGINE_PARTS_H
#define LU_ENGINE_PARTS_H

#include "base/violation.h"
#include "engine/engine.h"
#include "engine/fast.h"

enum place {
    PLACE_BAD, /* misuse, which was reported */
    PLACE_SMALL,
    PLACE_LARGE,
    PLACE_HUGE,
    PLACE_EMERGENCY,
    PLACE_ZERO,
    PLACE_GUARD,
    PLACE_UNKNOWN /* huge or foreign: in a signal handler above who changes the table */
};

struct found {
    enum place place;
    struct span *span; /* SMALL, LARGE */
    size_t usable;     /* bytes        */
    struct heap *user; /* LARGE, HUGE: the lu_heap that owns it, or NULL */
};

/* Look `pointer`, not NULL, up for `call`; misuse is reported. */
enum place lu__find(const void *pointer, const char *call, struct found *found);
/* The lu_heap whose block it is, or NULL. */
struct heap *lu__found_user(enum place place, const struct found *found);
/* Report misuse; PLACE_BAD. */
enum place lu__misuse(lu_violation_kind_t kind, const char *call, const void *pointer,
                      const void *block, size_t bytes);

/* True if `user`, which is locked now, still owns the run. If another thread does wrong, that may
 * have ended since it was looked up, and all that was found then is another's. */
LU_INLINE bool lu__still_owns(const struct heap *user, const struct span *span) {
    return __atomic_load_n(&span->owner, __ATOMIC_RELAXED) == user;
}

/* Free what lu__find has found. */
void lu__free_found(enum place place, const struct found *found, void *block);

extern unsigned char lu__perturb_byte LU_HIDDEN; /* fills what is freed, while lu__perturbing */
/* Relaxed atomic: a block has stayed in its place although it became smaller, as there was no
 * memory to move it to. From then on sizes do not tell places. */
extern bool lu__some_stayed LU_HIDDEN;

#endif
