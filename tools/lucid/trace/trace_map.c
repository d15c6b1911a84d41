/*
 * trace_map.c - a hash table with open addressing: an address is in the first free slot from its
 * hash on (linear probing), so that between the two all slots are taken.
 *
 * Removing keeps that (D. E. Knuth, The Art of Computer Programming, volume 3, section 6.4,
 * algorithm R): those behind the gap, up to the next free slot, move into it if their hash allows.
 * At most three quarters of the slots are taken.
 */
#include "trace/trace_map.h"

#include <stdlib.h>
#include <string.h>

struct trace_map_slot {
    uint64_t address;
    uint64_t number; /* plus 1; 0: free */
};

static size_t home(const struct trace_map *map, uint64_t address) {
    return (size_t)(address * 0x9e3779b97f4a7c15u >> 20) & map->mask;
}

/* The slot of the address, or the free one where it would be. */
static struct trace_map_slot *find(const struct trace_map *map, uint64_t address) {
    size_t i = home(map, address);
    while (map->slots[i].number != 0 && map->slots[i].address != address) i = (i + 1) & map->mask;
    return &map->slots[i];
}

bool trace_map_get(const struct trace_map *map, uint64_t address, uint64_t *number) {
    if (map->slots == NULL) return false;
    const struct trace_map_slot *slot = find(map, address);
    *number = slot->number - 1;
    return slot->number != 0;
}

static bool grow(struct trace_map *map) {
    struct trace_map old = *map;
    size_t slots = old.slots == NULL ? 1024 : 2 * (old.mask + 1);
    map->slots = calloc(slots, sizeof(*map->slots));
    if (map->slots == NULL) {
        *map = old;
        return false;
    }
    map->mask = slots - 1;
    for (size_t i = 0; old.slots != NULL && i <= old.mask; i++)
        if (old.slots[i].number != 0) *find(map, old.slots[i].address) = old.slots[i];
    free(old.slots);
    return true;
}

bool trace_map_put(struct trace_map *map, uint64_t address, uint64_t number) {
    if ((map->slots == NULL || map->count >= (map->mask + 1) / 4 * 3) && !grow(map)) return false;
    struct trace_map_slot *slot = find(map, address);
    map->count += slot->number == 0;
    *slot = (struct trace_map_slot){address, number + 1};
    return true;
}

bool trace_map_take(struct trace_map *map, uint64_t address, uint64_t *number) {
    if (!trace_map_get(map, address, number)) return false;
    size_t gap = (size_t)(find(map, address) - map->slots);
    for (size_t i = (gap + 1) & map->mask; map->slots[i].number != 0; i = (i + 1) & map->mask) {
        size_t wanted = home(map, map->slots[i].address);
        if (((i - wanted) & map->mask) >= ((i - gap) & map->mask)) {
            map->slots[gap] = map->slots[i];
            gap = i;
        }
    }
    map->slots[gap].number = 0;
    map->count--;
    return true;
}

void trace_map_clear(struct trace_map *map) {
    if (map->slots != NULL) memset(map->slots, 0, (map->mask + 1) * sizeof(*map->slots));
    map->count = 0;
}

void trace_map_fini(struct trace_map *map) {
    free(map->slots);
    *map = (struct trace_map){NULL, 0, 0};
}
