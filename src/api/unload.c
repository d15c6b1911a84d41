/*
 * unload.c - does the process end, or only the module that contains the library?
 *
 * A shared object that contains the library statically (liblucid.o, liblucid.a) may be unloaded by
 * dlclose, and the process goes on. What lucid had registered must not be called any more then:
 *
 *     key of threads' ends      deleted, whatever it is; waits for threads in its destructor
 *     fork's child handler      taken out with all that belongs to the module, by libc
 *     handler of SIGSEGV        cannot be undone where another one stands in front of it and may
 *                               call it: where it is wanted (guard_sample, harden:2), the module is
 *                               made to stay when it is loaded
 *     memory                    given back, but for what is live (engine/unload.c)
 *
 * Destructors run in both cases, and only the stack shows which it is: it has a call of dlclose or
 * not. (What was registered by __cxa_atexit is called before destructors, but after them where the
 * library was loaded before main began, and nothing tells that.) Nothing is undone when the process
 * ends: other threads and destructors may use the library to the last moment. Where the stack
 * cannot be read (dlclose on another stack), or libc unloads the module without dlclose (of iconv),
 * the memory stays.
 *
 * liblucid.so is never unloaded (-z nodelete). Not every module that contains us can be: its own
 * destructors have to run, its next version may be another file, and each that stayed would keep
 * its memory.
 */
#include <dlfcn.h>
#include <link.h>
#include <string.h>

#include "api/surface.h"
#include "sample/guard.h"
#include "sample/stack.h"
#include "heap/heap.h"
#include "os/lock.h"

#define FRAMES 32 /* of the stack that are looked at */

/* Not there in static programs, which do not need them. */
#pragma weak dladdr
#pragma weak dlopen
extern const ElfW(Dyn) own_section[] __asm__("_DYNAMIC") __attribute__((weak)) LU_HIDDEN;

/* Neither a program, whose section has a place for debuggers, nor marked to stay when linked. */
static bool may_be_unloaded(void) {
    if (own_section == NULL || dladdr == NULL || dlopen == NULL) return false;
    for (const ElfW(Dyn) *entry = own_section; entry->d_tag != DT_NULL; entry++) {
        if (entry->d_tag == DT_DEBUG) return false;
        if (entry->d_tag == DT_FLAGS_1 && (entry->d_un.d_val & DF_1_NODELETE) != 0) return false;
    }
    return true;
}

/* For ever, whatever dlclose says. */
static void stay(void) {
    Dl_info info;
    if (dladdr((const void *)stay, &info) == 0) return;
    (void)dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

void lu__unload_begin(void) {
    if (lu__engine_must_stay() && may_be_unloaded()) stay();
}

/* Which of the two was called last: a destructor that dlclose has called may call exit. */
static bool process_goes_on(void) {
    Dl_info info;
    uintptr_t frames[FRAMES];
    lu__stack_init();
    unsigned count = lu__stack_here(frames, FRAMES);
    for (unsigned i = 0; i < count; i++) {
        /* The call, not what is behind it. */
        if (dladdr((const void *)(frames[i] - 1), &info) == 0 || info.dli_sname == NULL) continue;
        if (strcmp(info.dli_sname, "exit") == 0) return false;
        if (strcmp(info.dli_sname, "dlclose") == 0) return true;
    }
    return false;
}

/* The last destructor of the module: others may allocate and free. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wprio-ctor-dtor"
#endif
__attribute__((destructor(0))) static void unload(void) {
    if (!may_be_unloaded()) return;
    lu__lock_see_process(); /* a copy must not wait for threads that do not exist in it */
    lu__thread_fini();
    if (!process_goes_on()) return;
    lu__engine_unload();
    lu__process_end();
}
