/*
 * link.c - the secrets of free lists: the keys of links, and where lists end.
 *
 *     span->key   one for each life of a span, from span_create to its end
 *                 = f(secret, descriptor, the key of the life before), f being one-way
 *     heap->keys  copies of those of the current spans, beside the lists that malloc pops
 *
 * Memory that is handed out may still hold links of an earlier life of its slice, and so gives keys
 * away: but only keys that were. From them the present one cannot be had without the secret, which
 * lies in the library's own data. Of a span's present life nothing is left in what it hands out, as
 * links are the first words of blocks, and are cleared.
 *
 * With its key known, the last link of a list tells where lists end. So that is no place in the
 * library, whose address would be given away, but a descriptor of the first region that stands for
 * nothing: blocks tell by themselves where the region is. A process for which there is none when it
 * makes its first heap uses a word of the library for its whole life, since no list may have two
 * ends. The lists of LU_EMPTY_HEAP, a constant, always end at that word.
 *
 * The secret and the end are written once, under pool_lock, before there is any heap.
 */
#include "base/siphash.h"
#include "base/violation.h"
#include "heap/heap.h"
#include "os/os.h"

const uintptr_t lu__list_end = 0;
uintptr_t lu__list_end_at = (uintptr_t)&lu__list_end;
static struct lu__siphash_key secret;

void lu__link_init(void) {
    for (size_t i = 0; i < LU_COUNT_OF(secret.words); i++) secret.words[i] = lu__os_random();
    uintptr_t zeros = lu__region_zeros();
    if (zeros != 0) lu__list_end_at = zeros;
}

/* Of the top 16 bits, which lu__looks_linked compares, some are fixed: so they are not those of a
 * pointer or a small number (0 or 0xffff), of text (a byte below 0x80 somewhere) or of a floating
 * point number near 1 (0x3f, 0x40, 0xbf, 0xc0 on top). */
uintptr_t lu__link_new_key(const struct span *span) {
    uint64_t life = (uintptr_t)span ^ span->key; /* two agree with probability 2^-60 */
    uint64_t random = lu__siphash(1, 3, &secret, &life, 1);
    return (uintptr_t)((random & 0x1f7fffffffffffff) | 0x8080000000000000);
}

uintptr_t lu__list_broken(uintptr_t key, uintptr_t block) {
    const struct span *span = lu__span_of(lu__region_of((void *)block), (void *)block);
    size_t size = span != NULL ? lu__class_size[span->class_id] : 0;
    lu__violation(LU_CORRUPT_LINK, "malloc", (void *)block, (void *)block, size);
    *(uintptr_t *)block = (LU_LIST_END ^ block) ^ key; /* told to go on without the rest */
    return LU_LIST_END;
}
