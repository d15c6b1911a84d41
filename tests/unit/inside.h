/* inside.h - for tests that call the span layer directly: the set-up of their group. */
#ifndef INSIDE_H
#define INSIDE_H

#include "base/options.h"
#include "os/lock.h"

static int set_up(void **state) {
    (void)state;
    lu__options_init();
    return lu__inside_enter() ? 0 : 1; /* as everybody who calls these functions */
}

#endif
