/*
 * heap.c - what the tests of classic heaps share. One thread.
 */
#include "heap.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void heap_fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)fprintf(stderr, "%s: ", program_invocation_short_name);
    (void)vfprintf(stderr, format, args);
    (void)fputc('\n', stderr);
    va_end(args);
    exit(1);
}

/* ---------------------------------------------------------------- heaps */

static void note_misuse(void *arg, const struct lu__classic *heap, const char *what,
                        const void *block) {
    struct misuse *misuse = arg;
    (void)heap;
    misuse->count++;
    misuse->what = what;
    misuse->block = block;
}

struct lu__classic *heap_create(const struct lu__policy *policy,
                                const struct lu__classic_config *config, struct misuse *misuse) {
    struct lu__classic_config own = {0};
    if (config != NULL) own = *config;
    if (misuse != NULL) {
        own.misuse = note_misuse;
        own.misuse_arg = misuse;
    }
    struct lu__classic *heap = lu__classic_create(policy, &own);
    if (heap == NULL) heap_fail("%s: no heap", policy->name);
    return heap;
}

void heap_check(struct lu__classic *heap) {
    struct lu__classic_fault fault = {"nothing", 0};
    if (lu__classic_validate(heap, &fault)) return;
    heap_fail("%s: %s: %#zx, base %#zx", heap->policy->name, fault.what, (size_t)fault.where,
              (size_t)heap->area.base);
}

struct picture {
    char text[4096];
    size_t length, unit;
};

static bool draw(void *arg, const struct lu__block *block) {
    struct picture *picture = arg;
    size_t room = sizeof picture->text - picture->length;
    int length = snprintf(picture->text + picture->length, room, "%s%c%zu",
                          picture->length != 0 ? " " : "", "ufctm"[block->state],
                          (block->bytes + picture->unit - 1) / picture->unit);
    if (length < 0 || (size_t)length >= room) heap_fail("a picture of too many blocks");
    picture->length += (size_t)length;
    return true;
}

const char *heap_picture(struct lu__classic *heap, size_t unit) {
    static struct picture picture;
    picture = (struct picture){.unit = unit};
    lu__classic_walk(heap, draw, &picture);
    return picture.text;
}

/* ---------------------------------------------------------------- numbers */

size_t random_below(struct random *random, size_t bound) {
    random->state = random->state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(random->state >> 33) % bound;
}
