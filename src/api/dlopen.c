/*
 * dlopen.c - dlopen without RTLD_DEEPBIND, so that modules use the malloc that the program uses.
 *
 * With that flag the loader looks up a module's symbols first in the module and the libraries that
 * it needs, libc among them, and only then in the global scope, where lucid stands before libc:
 *
 *     program, libc itself --> malloc, free of lucid
 *     module ----------------> malloc, free of libc; and blocks of one meet the other's free
 *
 * A block that reaches libc's free never passes through lucid, so no check could help. Hence
 * `deepbind:0`, the default, removes the flag; the module then binds like any other, and where
 * program and module define the same name, it gets the program's. With `deepbind:1` the flag stays.
 *
 * The next dlopen finds out who calls it by its return address: whose RUNPATH and $ORIGIN count,
 * and in which namespace it loads. So ours must not be the frame that called it: a few instructions
 * in the processor's language (dlopen_*.h) ask lu__dlopen_onward and *jump* on, with the caller's
 * return address in its place.
 *
 * This file is in liblucid.so only: a static program's libc has no next dlopen. State: where the
 * next one is, found at the first call. No lock; any thread may call, also before the constructor
 * of the library has run. dlmopen is left alone: other namespaces have a malloc of their own.
 *
 * Build note: not for link-time optimisation, which does not see what assembly defines.
 */
#include <dlfcn.h>

#ifdef RTLD_DEEPBIND

#include "base/base.h"
#include "base/options.h"

typedef void *dlopen_fn(const char *path, int mode);

/* Where to go on, and with what; returned in two registers on both processors. */
struct onward {
    dlopen_fn *next;
    unsigned long mode;
};

struct onward lu__dlopen_onward(int mode) __attribute__((visibility("hidden"), used));

static dlopen_fn *next_dlopen; /* relaxed atomic; NULL before the first call */

/* Called instead of a next dlopen that cannot be found: dlerror returns the message of dlsym. */
static LU_COLD void *fail(const char *path, int mode) {
    (void)path, (void)mode;
    return NULL;
}

#if defined(__x86_64__)
#define FIRST_VERSION "GLIBC_2.2.5"
#else
#define FIRST_VERSION "GLIBC_2.17"
#endif

/* If another library wraps dlsym, "next" is relative to that library, and may be our dlopen: then
 * take libc's. */
static LU_COLD dlopen_fn *find_next(void) {
    dlopen_fn *next = (dlopen_fn *)dlsym(RTLD_NEXT, "dlopen");
    if (next == dlopen) next = (dlopen_fn *)dlvsym(RTLD_NEXT, "dlopen", FIRST_VERSION);
    if (next == NULL) return fail;
    __atomic_store_n(&next_dlopen, next, __ATOMIC_RELAXED);
    return next;
}

struct onward lu__dlopen_onward(int mode) {
    lu__options_init();
    if (lu__option(LU_OPT_DEEPBIND) == 0) mode &= ~RTLD_DEEPBIND;
    dlopen_fn *next = __atomic_load_n(&next_dlopen, __ATOMIC_RELAXED);
    if (next == NULL) next = find_next();
    return (struct onward){.next = next, .mode = (unsigned)mode};
}

#if defined(__x86_64__)
#include "api/dlopen_x86_64.h"
#else
#include "api/dlopen_aarch64.h"
#endif

#else

typedef int lu__dlopen_has_no_flags; /* musl: a module never binds deeply */

#endif
