/* snapshot.h - the figures of lu_stats_t, read from the descriptors. */
#ifndef LU_SNAPSHOT_H
#define LU_SNAPSHOT_H

#include "lucid/lucid.h"

/* Print or write the statistics that LUCID_OPTIONS=stats asks for; at exit. */
void lu__stats_at_exit(void);

#endif
