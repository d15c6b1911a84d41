/*
 * asked.h - what was asked for each used block of a tracked classic heap.
 *
 * Most allocators forget the size that the caller named once they have rounded it up. To tell what
 * is lost inside blocks somebody must remember it: this table, beside the heap. For one thread.
 */
#ifndef LU_CLASSIC_ASKED_H
#define LU_CLASSIC_ASKED_H

#include "base/base.h"

struct lu__asked;

/* NULL: no memory. */
struct lu__asked *lu__asked_create(void);
void lu__asked_destroy(struct lu__asked *table);
/* Note, or change. False: no memory; the table is as it was. */
bool lu__asked_set(struct lu__asked *table, const void *payload, size_t bytes) LU_MUST_CHECK;
/* 0 if it is not known. */
size_t lu__asked_get(const struct lu__asked *table, const void *payload);
/* Forget; nothing if it is not known. */
void lu__asked_remove(struct lu__asked *table, const void *payload);
/* The sum of all. */
size_t lu__asked_total(const struct lu__asked *table);

#endif
