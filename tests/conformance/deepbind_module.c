/*
 * deepbind_module.c - a shared object, under two names, that deepbind.c opens with RTLD_DEEPBIND.
 * It makes and ends blocks, and says what its symbols are bound to.
 */
#include <stdlib.h>

typedef void *malloc_fn(size_t size);

void *module_make(size_t size);
void module_end(void *block);
malloc_fn *module_malloc(void);
const char *module_asks(void);
const char *deepbind_who(void);

void *module_make(size_t size) {
    return malloc(size);
}

void module_end(void *block) {
    free(block);
}

malloc_fn *module_malloc(void) {
    return malloc;
}

/* The program has a function of this name as well. Weak: the compiler may not take this one's word
 * for that of whichever the loader binds. */
__attribute__((weak)) const char *deepbind_who(void) {
    return "module";
}

const char *module_asks(void) {
    return deepbind_who();
}
