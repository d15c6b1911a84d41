/* watch.h - violations, noted by a handler that goes on: for tests of misuse. */
#ifndef WATCH_H
#define WATCH_H

#include "lucid/lucid.h"

static lu_violation_t last;
static unsigned violations;

static bool note(const lu_violation_t *violation, void *arg) {
    (void)arg;
    last = *violation;
    violations++;
    return true;
}

static int watch(void **state) {
    (void)state;
    violations = 0;
    lu_set_violation_handler(note, NULL);
    return 0;
}

static int unwatch(void **state) {
    (void)state;
    lu_set_violation_handler(NULL, NULL);
    return 0;
}

#endif
