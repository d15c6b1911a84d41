/* statfiles.h - what lucid writes at the end of each process of a command. */
#ifndef LUCID_STATFILES_H
#define LUCID_STATFILES_H

#include <jansson.h>
#include <sys/types.h>

/* A directory of its own for one run's files. */
struct statfiles {
    char *directory;
    char *lucid_options; /* for the child: the user's options and where to write */
};

/* Make the directory under TMPDIR or /tmp; dies if that cannot be done. */
void statfiles_init(struct statfiles *files);
/* Remove the directory and whatever is in it. */
void statfiles_fini(struct statfiles *files);

/* What one process wrote, chosen among all that did. */
struct statfiles_choice {
    json_t *stats; /* a reference of the caller's, or NULL: no process wrote any */
    pid_t pid;     /* whose it is */
    size_t others; /* processes that wrote some and are not shown */
};

/* The statistics of process `pid`, or, if it wrote none (a shell that ends by _exit, say), those of
 * the process that held most memory. A file that is not of the schema "lucid-stats-1" is warned
 * about and taken for none. */
struct statfiles_choice statfiles_read(const struct statfiles *files, pid_t pid);

#endif
