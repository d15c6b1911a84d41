/*
 * deepbind_opener.c - a shared object that opens others for deepbind.c: what it asks for by a bare
 * name lies in the directory that its own RUNPATH names. With OPEN_EARLY in the environment it
 * opens one before main.
 */
#include <dlfcn.h>
#include <stdlib.h>

void *opener_open(const char *name, int mode);
void *opener_early(void);

static void *early;

void *opener_open(const char *name, int mode) {
    void *handle = dlopen(name, mode);
    __asm__ volatile("" : "+r"(handle)); /* a call, with a return address in this object */
    return handle;
}

__attribute__((constructor)) static void open_early(void) {
    const char *name = getenv("OPEN_EARLY");
    if (name != NULL) early = opener_open(name, RTLD_NOW | RTLD_DEEPBIND);
}

void *opener_early(void) {
    return early;
}
