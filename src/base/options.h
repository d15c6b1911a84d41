/* options.h - LUCID_OPTIONS and its table. */
#ifndef LU_OPTIONS_H
#define LU_OPTIONS_H

#include "base/base.h"

enum lu__option {
    LU_OPT_STATS,          /* stats: 0|1|json: print statistics on stderr (or stats_file) at exit */
    LU_OPT_STATS_FILE,     /* stats_file: path that statistics are written to at exit, as JSON */
    LU_OPT_LIMIT,          /* limit: bytes held; 0 none */
    LU_OPT_PURGE_DELAY,    /* purge_delay: ms that free memory is kept; 0 at once, -1 never */
    LU_OPT_MMAP_THRESHOLD, /* mmap_threshold: bytes from which a block has a mapping of its own */
    LU_OPT_TRIM_THRESHOLD, /* trim_threshold: free dirty bytes above which purging does not wait;
                              -1 never, which as a size_t is above every amount */
    LU_OPT_TOP_PAD,        /* top_pad: least bytes by which committed memory grows */
    LU_OPT_ARENA_MAX,      /* arena_max: heaps that are kept for threads to come; 0 no bound */
    LU_OPT_PERTURB,        /* perturb: byte that fills freed blocks, its complement new ones */
    LU_OPT_ABORT,          /* abort: 0: report violations and go on; 1 abort */
    LU_OPT_RESERVE,        /* reserve: bytes that the first region can have (start only) */
    LU_OPT_DEEPBIND,       /* deepbind: dlopen of liblucid.so passes RTLD_DEEPBIND on */
    /* Hardening (docs/HARDENING.md); -1: as `harden` says. All at start only. */
    LU_OPT_HARDEN,       /* harden: 0 the checks that are always on, 1 more, 2 most */
    LU_OPT_RANDOM_ORDER, /* random_order: blocks of a span are handed out in random order */
    LU_OPT_ZERO_ON_FREE, /* zero_on_free: freed blocks are zeroed at once */
    LU_OPT_CHECK_FREED,  /* check_freed: freed blocks must still be zero when they are reused */
    LU_OPT_GUARD_SLICES, /* guard_slices: an inaccessible slice behind spans of small blocks */
    LU_OPT_QUARANTINE,   /* quarantine: bytes of freed blocks that each thread holds back */
    LU_OPT_CANARY,       /* canary: 0 none, 1 a word at the block's end, 2 from the request's end */
    LU_OPT_GUARD_LARGE,  /* guard_large: an inaccessible page behind each large block */
    LU_OPT_GUARD_ZERO,   /* guard_zero: the blocks of malloc(0) are inaccessible */
    LU_OPT_GUARD_SAMPLE, /* guard_sample: one allocation in so many beside a guard page; 0 none */
    LU_OPT_COUNT
};

/* Values of LU_OPT_STATS. */
enum { LU_STATS_OFF, LU_STATS_TEXT, LU_STATS_JSON };

/* Effective values; numbers, in the units above, from the first instruction on the defaults. Read
 * and written at any time, relaxed. The number of stats_file is 0 and means nothing. */
extern long lu__option_changes[LU_OPT_COUNT]; /* XOR the default */

LU_INLINE long lu__option_default(enum lu__option id) {
    switch (id) {
    case LU_OPT_PURGE_DELAY:
        return 500;
    case LU_OPT_MMAP_THRESHOLD:
        return 32L << 20;
    case LU_OPT_TRIM_THRESHOLD:
        return 64L << 20;
    case LU_OPT_ABORT:
    case LU_OPT_GUARD_ZERO:
        return 1;
    case LU_OPT_RESERVE:
        return 1L << 40;
    case LU_OPT_RANDOM_ORDER:
    case LU_OPT_ZERO_ON_FREE:
    case LU_OPT_CHECK_FREED:
    case LU_OPT_GUARD_SLICES:
    case LU_OPT_QUARANTINE:
    case LU_OPT_CANARY:
    case LU_OPT_GUARD_LARGE:
        return -1;
    default:
        return 0;
    }
}

LU_INLINE long lu__option(enum lu__option id) {
    return lu__option_default(id) ^ __atomic_load_n(&lu__option_changes[id], __ATOMIC_RELAXED);
}

/* Path of stats_file, or "". Written under the lock of options.c; read at exit without. */
extern char lu__option_stats_file[256];

/* Read LUCID_OPTIONS, once, at the library's start; reports bad keys and values on stderr. Every
 * further call does nothing, except that a call which comes before libc has an environment does not
 * count. Every function that sets or shows options calls it first, so that what a program says
 * later wins over the environment. */
void lu__options_init(void);
/* Set options from a text of the form of LUCID_OPTIONS, as if it stood there. */
void lu__options_read(const char *text);
/* For mallopt: set a number and note the origin. `origin` lives for ever; not for stats_file. */
void lu__option_set_number(enum lu__option id, long value, const char *origin);

/* Called after the program set the number of an option, with no lock held, in the thread that set
 * it. Not called for LUCID_OPTIONS. One for the process, set at start. */
typedef void lu__option_changed_fn(enum lu__option id);
void lu__options_on_change(lu__option_changed_fn *changed);

/* fork(2): called in the child, by the one thread that it has. */
void lu__options_fork_child(void);

/* lu_option_at, lu_option_get and lu_option_set (lucid.h) are defined in options.c. */
#endif
