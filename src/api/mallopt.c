/*
 * mallopt.c - mallopt(3), and options that the API layer passes on to the engine.
 *
 *     M_MMAP_THRESHOLD  mmap_threshold   0 to 32 MiB, the largest that mallopt(3) allows
 *     M_TRIM_THRESHOLD  trim_threshold   0 and above; -1: memory is never trimmed by amount
 *     M_TOP_PAD         top_pad          0 and above
 *     M_ARENA_MAX       arena_max        0 (no bound) and above
 *     M_PERTURB         perturb          any value; 0 turns filling off
 *
 * These are the parameters that have a meaning here; they set the same numbers as LUCID_OPTIONS and
 * return 1. All others return 0 and change nothing, whether glibc knows them (M_MXFAST,
 * M_ARENA_TEST, M_CHECK_ACTION, M_MMAP_MAX: there are no fast bins, no trial arenas, one action
 * after a violation, and no bound on mappings) or not. glibc returns 1 for most values that it
 * ignores; the manual says 0 for an error, so here the result tells a program whether the parameter
 * had an effect.
 *
 * Only glibc has mallopt.
 *
 * Two options are passed to the layers below on every change, because those do not read the options
 * when they need them: perturb, which the fast path must not read, and limit, which is stored
 * beside the figures that it is compared with. No state but the options. Any thread may call.
 */
#include "api/surface.h"
#include "base/options.h"
#include "span/span.h"

#ifdef __GLIBC__

#define MMAP_THRESHOLD_MOST (4 * 1024 * 1024 * (int)sizeof(long)) /* mallopt(3) */

static const char origin[] = "mallopt";

static int set_number(enum lu__option id, long value, long least, long most) {
    if (value < least || value > most) return 0;
    lu__option_set_number(id, value, origin);
    return 1;
}

/* The low byte fills, and any value but 0 turns filling on: 256 stands for a filler of 0. */
static int set_perturb(int value) {
    int filler = value & 0xff;
    lu__option_set_number(LU_OPT_PERTURB, value != 0 && filler == 0 ? 256 : filler, origin);
    return 1;
}

int lu__mallopt(int parameter, int value) {
    switch (parameter) {
    case M_MMAP_THRESHOLD:
        return set_number(LU_OPT_MMAP_THRESHOLD, value, 0, MMAP_THRESHOLD_MOST);
    case M_TRIM_THRESHOLD:
        return set_number(LU_OPT_TRIM_THRESHOLD, value, -1, INT32_MAX);
    case M_TOP_PAD:
        return set_number(LU_OPT_TOP_PAD, value, 0, INT32_MAX);
    case M_ARENA_MAX:
        return set_number(LU_OPT_ARENA_MAX, value, 0, INT32_MAX);
    case M_PERTURB:
        return set_perturb(value);
    default:
        return 0;
    }
}

#endif

static void carry_out(enum lu__option id) {
    if (id == LU_OPT_PERTURB) lu__engine_set_perturb((int)lu__option(LU_OPT_PERTURB));
    if (id == LU_OPT_LIMIT) { /* the callback of lu_set_limit stays */
        __atomic_store_n(&lu__span_figures.limit, (size_t)lu__option(LU_OPT_LIMIT),
                         __ATOMIC_RELAXED);
    }
}

void lu__surface_init(void) {
    lu__options_on_change(carry_out);
    if (lu__option(LU_OPT_PERTURB) != 0) carry_out(LU_OPT_PERTURB);
}
