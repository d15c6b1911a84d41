/* lab_list.h - the experiments, each in the file of its name. */
#ifndef LUCID_LAB_LIST_H
#define LUCID_LAB_LIST_H

#include "lab/lab.h"

extern const struct lab_experiment lab_malloc1, lab_threshold, lab_steps, lab_million,
    lab_untouched, lab_giveback, lab_faults, lab_kr, lab_fits, lab_slab, lab_threads, lab_mapping,
    lab_addresses, lab_misuse;

#endif
