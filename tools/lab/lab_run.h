/* lab_run.h - what the command needs of a run beside lab.h. */
#ifndef LUCID_LAB_RUN_H
#define LUCID_LAB_RUN_H

#include "run/run.h"
#include "lab/lab.h"

/* A run of the experiment on the allocators, which it borrows. */
struct lab *lab_start(const struct lab_experiment *experiment,
                      const struct allocator_list *allocators, bool may_overcommit);
void lab_run(struct lab *lab);
/* True if every check held, and there was one. */
bool lab_holds(const struct lab *lab);
/* The document with the checks, the verdict and, as the member "results", all facts. */
struct document *lab_finish(struct lab *lab);
void lab_end_run(struct lab *lab);

#endif
