/*
 * crc.c - CRC-32C, eight bytes at a time by tables.
 *
 * tables[0][b] is the remainder of the byte b; tables[k][b] that of b with k zero bytes behind it.
 * Eight bytes are then eight lookups that do not wait for each other (M. E. Kounavis and F. L.
 * Berry, "A systematic approach to building high performance software-based CRC generators", 2005).
 *
 * The tables are made at the first use. Threads that do so at the same time write the same values,
 * and `made` is set (release) after them all.
 */
#include "record/trace_format.h"

#include <stdbool.h>
#include <string.h>

enum { SLICES = 8 };
static const uint32_t polynomial = 0x82f63b78; /* bits reversed */
static uint32_t tables[SLICES][256];
static bool made;

static void make_tables(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t rest = byte;
        for (int bit = 0; bit < 8; bit++) rest = rest >> 1 ^ (rest & 1 ? polynomial : 0);
        __atomic_store_n(&tables[0][byte], rest, __ATOMIC_RELAXED);
    }
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t rest = tables[0][byte];
        for (int slice = 1; slice < SLICES; slice++) {
            rest = rest >> 8 ^ tables[0][rest & 255];
            __atomic_store_n(&tables[slice][byte], rest, __ATOMIC_RELAXED);
        }
    }
    __atomic_store_n(&made, true, __ATOMIC_RELEASE);
}

uint32_t crc32c(uint32_t crc, const void *bytes, size_t count) {
    const unsigned char *at = bytes;
    if (!__atomic_load_n(&made, __ATOMIC_ACQUIRE)) make_tables();
    crc = ~crc;
    for (; count >= 8; count -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, sizeof word);
        word ^= crc;
        crc = 0;
        for (unsigned i = 0; i < SLICES; i++) crc ^= tables[SLICES - 1 - i][word >> (8 * i) & 255];
    }
    for (; count > 0; count--) crc = crc >> 8 ^ tables[0][(crc ^ *at++) & 255];
    return ~crc;
}
