/* cgroup.h - the memory limits of the process's own control group. */
#ifndef LU_CGROUP_H
#define LU_CGROUP_H

#include "base/base.h"

#define LU_CGROUP_NONE SIZE_MAX

/* Bytes; LU_CGROUP_NONE where nothing is limited. */
struct lu__cgroup_memory {
    size_t max;  /* memory.max or, in version 1, memory.limit_in_bytes: beyond it processes die   */
    size_t high; /* memory.high: beyond it they are slowed down. Version 1 has no such thing      */
};

/* Find the group that accounts memory in the text of /proc/self/cgroup. *path points into the text;
 * *v1 is true if it is a path in the hierarchy of the version 1 controller. Returns false if there
 * is no group. */
bool lu__cgroup_find(const char *text, size_t length, const char **path, size_t *path_bytes,
                     bool *v1) LU_MUST_CHECK;
/* The content of one limit file: bytes, or LU_CGROUP_NONE for "max", for more bytes than any
 * machine has, and for a text that is not a number. */
size_t lu__cgroup_number(const char *text, size_t length);
/* The lowest limits on the way from the process's group up to the root, from files below the
 * directory `root` ("" for the system). False if no group can be found. Keeps errno. */
bool lu__cgroup_read(const char *root, struct lu__cgroup_memory *out) LU_MUST_CHECK;
/* The limit on memory held that follows from them; 0: none. The rule is in cgroup.c. */
size_t lu__cgroup_limit(const struct lu__cgroup_memory *memory);

#endif
