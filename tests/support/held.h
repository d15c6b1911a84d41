/* held.h - the parts of held memory, added up. */
#ifndef HELD_H
#define HELD_H

#include <string.h>

#include "lucid/lucid.h"

#include "lucid/lucid.h"

static inline size_t held_sum(const lu_held_t *held) {
    size_t part, sum = 0;
    for (size_t at = 0; at < sizeof *held; at += sizeof part) {
        memcpy(&part, (const char *)held + at, sizeof part);
        sum += part;
    }
    return sum;
}

#endif
