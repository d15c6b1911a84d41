/* files.h - a scratch directory for tests of stores, and memory that survives a killed child. */
#ifndef FILES_H
#define FILES_H

#include <stddef.h>

/* A path inside a directory that is removed when the calling process ends by exit(3). */
const char *files_path(const char *name);
/* Zeroed memory shared with the children forked from now on. */
void *files_share(size_t size);
/* The whole file; *size bytes, to be freed by free(3). */
unsigned char *files_read(const char *path, size_t *size);
void files_write(const char *path, const void *bytes, size_t size);
/* How many names the directory `path` has, "." and ".." included; -1: it cannot be read. */
int files_count(const char *path);

#endif
