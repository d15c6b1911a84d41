/*
 * clock.c - a clock that stands still until the test moves it.
 *
 *     library   lu__os_now_ms()
 *     here      __wrap_lu__os_now_ms    what clock_set and clock_advance made it
 */
#include "clock.h"

#define HALF ((uint64_t)1 << 31)
#define AROUND(ms) (ms) - 1000, (ms)-1, (ms), (ms) + 1, (ms) + 1000

uint64_t __wrap_lu__os_now_ms(void);

static uint64_t clock_ms = 1000; /* atomic */

const uint64_t clock_spans[] = {
    1,
    16,
    500,
    5000,
    3600 * 1000,
    CLOCK_DAY,
    15 * CLOCK_DAY,
    AROUND(HALF),
    25 * CLOCK_DAY,
    26 * CLOCK_DAY,
    AROUND(2 * HALF),
    50 * CLOCK_DAY,
    AROUND(3 * HALF),
    AROUND(4 * HALF),
    100 * CLOCK_DAY,
    AROUND(5 * HALF),
    AROUND(6 * HALF),
    AROUND(7 * HALF),
    AROUND(8 * HALF),
    200 * CLOCK_DAY,
};
const size_t clock_span_count = sizeof clock_spans / sizeof clock_spans[0];

uint64_t __wrap_lu__os_now_ms(void) {
    return __atomic_load_n(&clock_ms, __ATOMIC_RELAXED);
}

uint64_t clock_now(void) {
    return __wrap_lu__os_now_ms();
}

void clock_set(uint64_t ms) {
    __atomic_store_n(&clock_ms, ms, __ATOMIC_RELAXED);
}

void clock_advance(uint64_t ms) {
    __atomic_fetch_add(&clock_ms, ms, __ATOMIC_RELAXED);
}
