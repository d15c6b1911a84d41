/*
 * siphash.h - a hash under a secret key, of whole words: SipHash (Aumasson and Bernstein, "SipHash:
 * a fast short-input PRF", INDOCRYPT 2012).
 *
 * Somebody who sees results, and even chooses the input, learns neither the key nor any other
 * result: so the hash makes many secrets from one. The two numbers are rounds per word and rounds
 * at the end: 2-4 is the paper's version, 1-3 a faster one for results that need not stay secret
 * for long.
 */
#ifndef LU_SIPHASH_H
#define LU_SIPHASH_H

#include "base/base.h"

struct lu__siphash_key {
    uint64_t words[2];
};

LU_INLINE uint64_t lu__siphash_rotate(uint64_t x, unsigned bits) {
    return x << bits | x >> (64 - bits);
}

LU_INLINE void lu__siphash_rounds(uint64_t v[4], unsigned rounds) {
    while (rounds-- > 0) {
        v[0] += v[1];
        v[2] += v[3];
        v[1] = lu__siphash_rotate(v[1], 13) ^ v[0];
        v[3] = lu__siphash_rotate(v[3], 16) ^ v[2];
        v[0] = lu__siphash_rotate(v[0], 32);
        v[2] += v[1];
        v[0] += v[3];
        v[1] = lu__siphash_rotate(v[1], 17) ^ v[2];
        v[3] = lu__siphash_rotate(v[3], 21) ^ v[0];
        v[2] = lu__siphash_rotate(v[2], 32);
    }
}

/* SipHash-`each`-`last` of `count` words, each eight bytes of the input, the first the lowest. */
LU_INLINE uint64_t lu__siphash(unsigned each, unsigned last, const struct lu__siphash_key *key,
                               const uint64_t *words, size_t count) {
    uint64_t v[4] = {
        key->words[0] ^ 0x736f6d6570736575u,
        key->words[1] ^ 0x646f72616e646f6du,
        key->words[0] ^ 0x6c7967656e657261u,
        key->words[1] ^ 0x7465646279746573u,
    };
    for (size_t i = 0; i <= count; i++) {
        /* Behind whole words the last one holds nothing but the length in bytes, modulo 256. */
        uint64_t word = i < count ? words[i] : (uint64_t)count << 59;
        v[3] ^= word;
        lu__siphash_rounds(v, each);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    lu__siphash_rounds(v, last);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif
