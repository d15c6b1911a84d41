/* clock.h - the library's clock in the hands of a test: link clock.c with --wrap=lu__os_now_ms. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stddef.h>
#include <stdint.h>

#define CLOCK_DAY ((uint64_t)24 * 60 * 60 * 1000) /* milliseconds */

/* It says 1000 at first. Any thread. */
void clock_set(uint64_t ms);
void clock_advance(uint64_t ms);
uint64_t clock_now(void);

/* Lengths of time up to 200 days, in rising order: the usual ones, and before, at and behind every
 * multiple of 2^31 ms (24.9 days), where arithmetic in 32 bits comes round. */
extern const uint64_t clock_spans[];
extern const size_t clock_span_count;

#endif
