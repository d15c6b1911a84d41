/*
 * module.c - a shared object that module_user.c loads and unloads. It allocates while it is loaded,
 * hands blocks over in both directions, leaves blocks behind, and frees while it is unloaded.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

extern int __cxa_thread_atexit_impl(void (*destroy)(void *), void *object, void *module);
extern void *__dso_handle;

void *module_make(size_t size);
void module_end(void *block);
char *module_name(void);
void module_at_thread_exit(void);

static char *name;             /* allocated by the constructor, freed by the destructor */
static __thread char *scratch; /* dynamic TLS of an unloadable object                   */

__attribute__((constructor)) static void load(void) {
    name = malloc(100000);
    if (name != NULL) strcpy(name, "module");
}

__attribute__((destructor)) static void unload(void) {
    void *block = malloc(500);
    free(name);
    free(scratch);
    free(block);
}

void *module_make(size_t size) {
    free(scratch);
    scratch = malloc(64);
    return malloc(size);
}

void module_end(void *block) {
    free(block);
}

char *module_name(void) {
    return name;
}

static void end_scratch(void *object) {
    (void)object;
    free(scratch);
    scratch = NULL;
}

/* The calling thread frees its scratch block when it ends. */
void module_at_thread_exit(void) {
    __cxa_thread_atexit_impl(end_scratch, NULL, &__dso_handle);
}
