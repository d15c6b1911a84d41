/* lab_facts.h - running a probe and reading what it tells. */
#ifndef LUCID_LAB_FACTS_H
#define LUCID_LAB_FACTS_H

#include "run/run.h"
#include "lab/lab.h"

/* How a probe is started. */
struct lab_launch {
    const struct allocator *allocator; /* put under it; NULL: as the environment is       */
    const char *options;               /* LUCID_OPTIONS, or NULL                          */
    const char *under;                 /* a program and its options that runs it, or NULL */
    const char *const *arguments;      /* ended by NULL                                   */
};

/* Run the probe; it is killed after a minute. Never NULL; the caller destroys. */
struct lab_facts *lab_facts_gather(const struct lab_launch *launch);
void lab_facts_destroy(struct lab_facts *facts);
/* Numbers, texts and series as an object; borrowed. */
json_t *lab_facts_json(const struct lab_facts *facts);

#endif
