/*
 * deepbind_tracer.c - a library in front of lucid that has a dlsym of its own, as tracers and
 * overlays do. Whoever asks for what comes next is answered with what comes next to this one.
 */
#include <dlfcn.h>
#include <stddef.h>

#if defined(__x86_64__)
#define FIRST_VERSION "GLIBC_2.2.5"
#else
#define FIRST_VERSION "GLIBC_2.17"
#endif

typedef void *dlsym_fn(void *handle, const char *name);

void *dlsym(void *handle, const char *name) {
    static dlsym_fn *next;
    if (next == NULL) next = (dlsym_fn *)dlvsym(RTLD_NEXT, "dlsym", FIRST_VERSION);
    void *found = next(handle, name);
    __asm__ volatile("" : "+r"(found)); /* no jump: the caller is this library */
    return found;
}
