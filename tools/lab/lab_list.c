/* lab_list.c - the table of all experiments, in the order in which the book tells them. */
#include "lab/lab_list.h"

const struct lab_experiment *const lab_experiments[] = {
    &lab_malloc1,  &lab_threshold, &lab_steps,     &lab_million, &lab_untouched,
    &lab_giveback, &lab_faults,    &lab_kr,        &lab_fits,    &lab_slab,
    &lab_threads,  &lab_mapping,   &lab_addresses, &lab_misuse,  NULL,
};
