/* probe_list.h - the measurements; each file of probe/ has some. */
#ifndef LUCID_PROBE_LIST_H
#define LUCID_PROBE_LIST_H

#include "probe/probe.h"

extern const struct probe probes[]; /* ended by a NULL name */

int probe_malloc1(int argc, char **argv);
int probe_threshold(int argc, char **argv);
int probe_steps(int argc, char **argv);
int probe_million(int argc, char **argv);
int probe_untouched(int argc, char **argv);
int probe_too_much(int argc, char **argv);
int probe_giveback(int argc, char **argv);
int probe_growing(int argc, char **argv);
int probe_mapping_cost(int argc, char **argv);
int probe_threads(int argc, char **argv);
int probe_mapping(int argc, char **argv);
int probe_addresses(int argc, char **argv);
int probe_misuse(int argc, char **argv);

#endif
