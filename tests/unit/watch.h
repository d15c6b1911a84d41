/* watch.h - violations, noted by a handler that goes on: for tests of misuse. */
#ifndef WATCH_H
#define WATCH_H

#include "lucid/lucid.h"

static lu_violation_t last;
static unsigned violations;

static inline bool note(const lu_violation_t *violation, void *arg) {
    assert_ptr_equal(arg, &violations);
    last = *violation;
    violations++;
    return true;
}

static inline int watch(void **state) {
    (void)state;
    violations = 0;
    lu_set_violation_handler(note, &violations);
    return 0;
}

static inline int unwatch(void **state) {
    (void)state;
    lu_set_violation_handler(NULL, NULL);
    return 0;
}

/* lu_cache_free of the pointer is told once, as that. */
static inline void assert_refused(lu_cache_t *cache, void *pointer, lu_violation_kind_t kind,
                                  const void *block) {
    unsigned before = violations;
    lu_cache_free(cache, pointer);
    assert_int_equal(violations, before + 1);
    assert_int_equal(last.kind, kind);
    assert_ptr_equal(last.pointer, pointer);
    assert_ptr_equal(last.block, block);
    assert_string_equal(last.call, "lu_cache_free");
}

#endif
