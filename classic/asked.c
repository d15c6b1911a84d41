/*
 * asked.c - a hash table from payload to bytes asked, with open addressing.
 *
 * Source: linear probing with deletion by shifting back, D. E. Knuth, The Art of Computer
 * Programming vol. 3 (2nd ed. 1998), 6.4, algorithms L and R. At most half of the places are taken,
 * so a probe sequence is short, and there is always an empty place at which it ends.
 *
 *     places   [ key | asked ][ 0 | - ][ key | asked ] …      key 0: empty
 */
#include "classic/asked.h"

#include <string.h>

#include "classic/classic.h"

struct place {
    uintptr_t key;
    size_t asked;
};

struct lu__asked {
    struct place *places;
    size_t room; /* a power of two */
    size_t count, total;
};

#define FIRST_ROOM 1024u

static size_t home_of(const struct lu__asked *table, uintptr_t key) {
    return (size_t)((uint64_t)(key >> 4) * 0x9e3779b97f4a7c15u >> 20) & (table->room - 1);
}

/* Where the key is, or would be put. */
static size_t find(const struct lu__asked *table, uintptr_t key) {
    size_t i = home_of(table, key);
    while (table->places[i].key != 0 && table->places[i].key != key) {
        i = (i + 1) & (table->room - 1);
    }
    return i;
}

struct lu__asked *lu__asked_create(void) {
    struct lu__asked *table = lu__classic_meta_alloc(sizeof *table);
    if (table == NULL) return NULL;
    table->room = FIRST_ROOM;
    table->places = lu__classic_meta_alloc(table->room * sizeof *table->places);
    if (table->places == NULL) {
        lu__classic_meta_free(table, sizeof *table);
        return NULL;
    }
    return table;
}

void lu__asked_destroy(struct lu__asked *table) {
    lu__classic_meta_free(table->places, table->room * sizeof *table->places);
    lu__classic_meta_free(table, sizeof *table);
}

static bool grow(struct lu__asked *table) {
    struct place *old = table->places, *fresh;
    size_t old_room = table->room;
    fresh = lu__classic_meta_alloc(2 * old_room * sizeof *fresh);
    if (fresh == NULL) return false;
    table->places = fresh;
    table->room = 2 * old_room;
    for (size_t i = 0; i < old_room; i++) {
        if (old[i].key != 0) fresh[find(table, old[i].key)] = old[i];
    }
    lu__classic_meta_free(old, old_room * sizeof *old);
    return true;
}

bool lu__asked_set(struct lu__asked *table, const void *payload, size_t bytes) {
    struct place *place = &table->places[find(table, (uintptr_t)payload)];
    if (place->key == 0) {
        if (table->count >= table->room / 2) {
            if (!grow(table)) return false;
            place = &table->places[find(table, (uintptr_t)payload)];
        }
        place->key = (uintptr_t)payload;
        table->count++;
    } else {
        table->total -= place->asked;
    }
    place->asked = bytes;
    table->total += bytes;
    return true;
}

size_t lu__asked_get(const struct lu__asked *table, const void *payload) {
    const struct place *place = &table->places[find(table, (uintptr_t)payload)];
    return place->key != 0 ? place->asked : 0;
}

void lu__asked_remove(struct lu__asked *table, const void *payload) {
    size_t mask = table->room - 1, hole = find(table, (uintptr_t)payload);
    struct place *places = table->places;
    if (places[hole].key == 0) return;
    table->total -= places[hole].asked;
    table->count--;
    for (size_t i = (hole + 1) & mask; places[i].key != 0; i = (i + 1) & mask) {
        /* It may move to the hole if its home does not lie between the two. */
        if (((i - home_of(table, places[i].key)) & mask) >= ((i - hole) & mask)) {
            places[hole] = places[i];
            hole = i;
        }
    }
    places[hole] = (struct place){0, 0};
}

size_t lu__asked_total(const struct lu__asked *table) {
    return table->total;
}
