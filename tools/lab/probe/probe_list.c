/* probe_list.c - the table of measurements. */
#include "probe/probe_list.h"

const struct probe probes[] = {
    {"malloc1", probe_malloc1},
    {"threshold", probe_threshold},
    {"steps", probe_steps},
    {"million", probe_million},
    {"untouched", probe_untouched},
    {"too_much", probe_too_much},
    {"giveback", probe_giveback},
    {"growing", probe_growing},
    {"mapping_cost", probe_mapping_cost},
    {"threads", probe_threads},
    {"mapping", probe_mapping},
    {"addresses", probe_addresses},
    {"misuse", probe_misuse},
    {NULL, NULL},
};
