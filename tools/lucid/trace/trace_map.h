/* trace_map.h - from addresses of live blocks to their numbers. */
#ifndef LUCID_TRACE_MAP_H
#define LUCID_TRACE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct trace_map {
    struct trace_map_slot *slots;
    size_t mask; /* slots - 1, or 0 without any */
    size_t count;
};

/* The number at `address`; false if there is none. */
bool trace_map_get(const struct trace_map *map, uint64_t address, uint64_t *number);
/* Set it; false without memory. */
bool trace_map_put(struct trace_map *map, uint64_t address, uint64_t number);
/* Get it and remove it. */
bool trace_map_take(struct trace_map *map, uint64_t address, uint64_t *number);
/* Remove all; the memory stays for the next time. */
void trace_map_clear(struct trace_map *map);
void trace_map_fini(struct trace_map *map);

#endif
