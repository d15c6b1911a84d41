/*
 * registry.c - the list of all classic policies.
 *
 * It refers to all of them: what uses one policy only (a preloadable library) does without it.
 */
#include "classic/classic.h"

#include <string.h>

const struct lu__policy *const lu__policies[] = {
    &lu__policy_kr,
    &lu__policy_first,
    &lu__policy_next,
    &lu__policy_best,
    &lu__policy_best_tree,
    &lu__policy_worst,
    &lu__policy_buddy,
    &lu__policy_slab,
    &lu__policy_dl,
    &lu__policy_pt,
    NULL,
};

const struct lu__policy *lu__policy_find(const char *name) {
    for (const struct lu__policy *const *policy = lu__policies; *policy != NULL; policy++) {
        if (strcmp((*policy)->name, name) == 0) return *policy;
    }
    return NULL;
}
