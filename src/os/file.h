/*
 * file.h - the kernel's side of heaps over files and shared memory (src/store).
 *
 * As in os.h: 0 or an errno value, errno itself is never touched, nothing allocates, all are
 * thread safe. None is a cancellation point, because a store's lock may be held.
 */
#ifndef LU_OS_FILE_H
#define LU_OS_FILE_H

#include "base/base.h"

struct lu__os_file_info {
    uint64_t bytes;
    uint64_t device, inode; /* which file it is */
    bool regular;           /* neither directory nor pipe nor device */
};

/* Open for reading and writing, without waiting for the other end of a pipe. The caller owns the
 * descriptor; it is closed by exec, and is never 0, 1 or 2, because a program that has closed those
 * may still print to them. */
int lu__os_file_open(const char *path, int *out) LU_MUST_CHECK;
/* A new empty file that has no name at `path` yet. `scratch` (of at least strlen(path) + 32 bytes)
 * gets the temporary name that it needs where the file system has no nameless files, else "". */
int lu__os_file_create(const char *path, unsigned mode, char *scratch, size_t scratch_bytes,
                       int *out) LU_MUST_CHECK;
/* Link the file that lu__os_file_create made to its name, complete and in one step; EEXIST if the
 * name exists. The temporary name is gone afterwards, also on failure; with "" as path nothing else
 * is done. */
int lu__os_file_publish(int fd, const char *scratch, const char *path) LU_MUST_CHECK;
int lu__os_file_info(int fd, struct lu__os_file_info *out) LU_MUST_CHECK;
/* Read exactly `size` bytes; EIO if the file ends before. */
int lu__os_file_read(int fd, uint64_t from, void *to, size_t size) LU_MUST_CHECK;
/* Set the length. EFBIG where RLIMIT_FSIZE forbids it, without the signal. */
int lu__os_file_resize(int fd, uint64_t size) LU_MUST_CHECK;
/* Have the file system allocate the disk blocks, so that a later write to the mapping cannot meet a
 * full disk; 0 also where the file system cannot do it. */
int lu__os_file_allocate(int fd, uint64_t from, uint64_t size) LU_MUST_CHECK;
/* Locks of the open file description on one byte of the file. EAGAIN if another description's lock
 * is in the way and `wait` is false. */
enum lu__os_file_lock { LU_OS_FILE_UNLOCK, LU_OS_FILE_SHARE, LU_OS_FILE_EXCLUDE };
int lu__os_file_lock(int fd, uint64_t byte, enum lu__os_file_lock kind, bool wait) LU_MUST_CHECK;
void lu__os_file_close(int fd);

/* Map the file, shared, at `wish` if that is free, else anywhere. `size` may be more than the file
 * has: the part behind its end can be used once the file is longer, and raises SIGBUS until
 * then. */
int lu__os_file_map(int fd, void *wish, size_t size, void **out) LU_MUST_CHECK;
/* Zeroed memory shared with children, at `wish` if that is free; its pages come when touched. */
int lu__os_shared_map(void *wish, size_t size, void **out) LU_MUST_CHECK;
/* Replace a mapping by zeros that belong to this process alone. */
int lu__os_file_forget(void *at, size_t size) LU_MUST_CHECK;
/* Write the pages of a shared mapping to its file and wait for the disk. */
int lu__os_file_sync(void *at, size_t size) LU_MUST_CHECK;
/* Give the pages of a shared mapping back, in the file too; they read as zero. */
int lu__os_file_punch(void *at, size_t size) LU_MUST_CHECK;

#endif
