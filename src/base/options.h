/* options.h - LUCID_OPTIONS. The table of options is options.def. */
#ifndef LU_OPTIONS_H
#define LU_OPTIONS_H

#include "base/base.h"

/* LU_OPT_STATS and so on, in the order of the table; what each is stands there. */
enum lu__option {
#define LU_OPTION(id, ...) LU_OPT_##id,
#include "base/options.def"
#undef LU_OPTION
    LU_OPT_COUNT
};

/* Values of LU_OPT_STATS. */
enum { LU_STATS_OFF, LU_STATS_TEXT, LU_STATS_JSON };

/* Effective values: numbers, in the units above; from the first instruction on they are the
 * defaults. Read and written at any time, relaxed. The number of stats_file is 0 and has no
 * meaning. */
extern long lu__option_changes[LU_OPT_COUNT]; /* XOR the default */

LU_INLINE long lu__option_default(enum lu__option id) {
    switch (id) {
#define LU_OPTION(name, key, kind, initial, ...) \
    case LU_OPT_##name:                          \
        return initial;
#include "base/options.def"
#undef LU_OPTION
    case LU_OPT_COUNT:
        break;
    }
    return 0;
}

LU_INLINE long lu__option(enum lu__option id) {
    return lu__option_default(id) ^ __atomic_load_n(&lu__option_changes[id], __ATOMIC_RELAXED);
}

/* Path of stats_file, or "". Written under the lock of options.c; read at exit without. */
extern char lu__option_stats_file[256];

/* Read LUCID_OPTIONS, once, at the library's start; reports bad keys and values on stderr. Every
 * further call does nothing. A call that comes before libc has an environment does not count as the
 * first. Every function that sets or shows options calls it first, so that what a program says
 * later wins over the environment. */
void lu__options_init(void);
/* Set options from a text of the form of LUCID_OPTIONS, as if the text were in that variable. */
void lu__options_read(const char *text);
/* For mallopt: set a number and note the origin. The string `origin` must live for ever. Not for
 * stats_file. */
void lu__option_set_number(enum lu__option id, long value, const char *origin);

/* A function that is called after the program set the number of an option, with no lock held, in
 * the thread that set it. Not called for LUCID_OPTIONS. The process has one such function, set at
 * start. */
typedef void lu__option_changed_fn(enum lu__option id);
void lu__options_on_change(lu__option_changed_fn *changed);

/* fork(2): called in the child, by the one thread that it has. */
void lu__options_fork_child(void);

/* lu_option_at, lu_option_get and lu_option_set (lucid.h) are defined in options.c. */
#endif
