/*
 * glibc_info.c - what mallinfo(3) and malloc_stats(3) look like, for liblucid and for the classic
 * allocators as libraries. Nothing here allocates. Other C libraries have neither function.
 */
#include "base/glibc_info.h"

#include <limits.h>
#include <string.h>

#ifdef __GLIBC__

static int to_int(size_t value) {
    return value > INT_MAX ? INT_MAX : (int)value;
}

struct mallinfo lu__mallinfo_narrow(const struct mallinfo2 *wide) {
    struct mallinfo info = {0};
    info.arena = to_int(wide->arena);
    info.ordblks = to_int(wide->ordblks);
    info.smblks = to_int(wide->smblks);
    info.hblks = to_int(wide->hblks);
    info.hblkhd = to_int(wide->hblkhd);
    info.fsmblks = to_int(wide->fsmblks);
    info.uordblks = to_int(wide->uordblks);
    info.fordblks = to_int(wide->fordblks);
    info.keepcost = to_int(wide->keepcost);
    return info;
}

void lu__stats_line(struct lu__text *text, const char *label, size_t value) {
    char digits[24];
    struct lu__text number;
    lu__text_init(&number, digits, sizeof digits);
    lu__text_add(&number, "%zu", value);
    lu__text_add(text, "%s", label);
    for (size_t column = strlen(label) + number.need; column < 29; column++) {
        lu__text_add(text, " ");
    }
    lu__text_add(text, "%s\n", digits);
}

#endif
