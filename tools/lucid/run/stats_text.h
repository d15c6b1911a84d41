/* stats_text.h - lucid's statistics of one process, for people. */
#ifndef LUCID_STATS_TEXT_H
#define LUCID_STATS_TEXT_H

#include "frame/frame.h"
#include "run/statfiles.h"

/* `chosen->stats` is of the schema "lucid-stats-1"; members that it lacks are left out. `child` is
 * the process that was started, which need not be the one shown. */
void stats_text_print(struct output *out, const char *name, pid_t child,
                      const struct statfiles_choice *chosen);

#endif
