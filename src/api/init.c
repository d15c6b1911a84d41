/*
 * init.c - what happens when the library is loaded, when the program forks, and at exit.
 *
 * The engine sets itself up at the first allocation, which may come before any constructor. Only
 * pthread_atfork waits for lucid's constructor, because it may allocate itself: libc asks for
 * memory when its static slots are used up. Nothing is locked before a fork, so a thread that holds
 * a lock of stdio or of the program cannot wait for lucid while fork waits for that thread; instead
 * the child puts the engine in order (lu__engine_fork_child), and object caches when they are used
 * (cache.c). A child that was made in another way than by fork, where no handler runs, does so at
 * its first lock (os/process.c).
 */
#include <pthread.h>

#include "api/magazine.h"
#include "api/surface.h"
#include "base/options.h"
#include "base/spin.h"
#include "base/violation.h"
#include "engine/engine.h"
#include "sample/stack.h"
#include "heap/limit.h"
#include "base/version.h"
#include "lucid/lucid.h"
#include "os/lock.h"
#include "stats/snapshot.h"

/* What pthread_atfork of libc's static part calls us by. The shared library is linked without the
 * compiler's start files, which define it; where they are linked, theirs is taken. */
extern const char __dso_handle[];
__attribute__((weak, visibility("hidden"))) const char __dso_handle[1];

const char *lu_version(void) {
    return LU_VERSION_TEXT;
}

size_t lu_purge(void) {
    lu__magazine_purge();
    return lu__engine_purge();
}

int lu_set_limit(size_t limit_bytes, lu_limit_fn *reached, void *arg) {
    lu__option_set_number(LU_OPT_LIMIT, (long)LU_MIN(limit_bytes, (size_t)INT64_MAX), "program");
    return lu__limit_set(limit_bytes, reached, arg);
}

/* Called in a process that is a copy of another one, as soon as that is noticed (os/process.h). */
static void put_in_order(bool alone) {
    lu__options_fork_child();
    lu__violation_fork_child();
    lu__engine_fork_child(alone);
    lu__cache_fork_child(alone);
}

static bool tell_later(void) {
    return lu__inside_tell_later();
}

__attribute__((constructor(101))) void lu__at_load(void) {
    lu__options_init();
    lu__surface_init();
    lu__stack_init();
    lu__violation_init(lu__stack_place, tell_later);
    lu__process_begin(put_in_order);
    lu__spin_before = lu__lock_see_process;
    (void)pthread_atfork(NULL, NULL, lu__lock_new_process);
    lu__unload_begin();
}

__attribute__((destructor(101))) static void at_exit(void) {
    lu__stats_at_exit();
}
