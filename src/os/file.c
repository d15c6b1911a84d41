/*
 * file.c - file.h for Linux.
 *
 * The kernel is called directly: several of libc's wrappers are cancellation points, and a thread
 * that is cancelled inside one would never release a store's lock. Locks are those of open file
 * descriptions (F_OFD_*): they live as long as any process holds the description, children of fork
 * included, and two opens of one file in the same process exclude each other as well.
 */
#include "os/file.h"

#include "base/format.h"
#include "os/kernel.h"
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

_Static_assert(sizeof(long) == 8, "offsets are passed to the kernel in one register");

static int error_of(long result) {
    return lu__kernel_failed(result) ? (int)-result : 0;
}

static int open_at(const char *path, int flags, unsigned mode, int *out) {
    long fd;
    do {
        fd = lu__syscall(SYS_openat, AT_FDCWD, (long)path, flags | O_RDWR | O_CLOEXEC | O_NOCTTY,
                         mode, 0, 0);
    } while (fd == -EINTR);
    if (fd >= 0 && fd <= STDERR_FILENO) {
        long low = fd;
        fd = lu__syscall(SYS_fcntl, low, F_DUPFD_CLOEXEC, STDERR_FILENO + 1, 0, 0, 0);
        lu__os_file_close((int)low);
    }
    if (fd >= 0) *out = (int)fd;
    return error_of(fd);
}

int lu__os_file_open(const char *path, int *out) {
    return open_at(path, O_NONBLOCK, 0, out);
}

/* The directory part of `path`, with its slash; "." if there is none. */
static void directory_of(const char *path, char *out, size_t out_bytes) {
    size_t length = 0;
    for (size_t i = 0; path[i] != '\0'; i++) {
        if (path[i] == '/') length = i + 1;
    }
    if (length == 0) path = ".", length = 1;
    length = LU_MIN(length, out_bytes - 1);
    __builtin_memcpy(out, path, length);
    out[length] = '\0';
}

int lu__os_file_create(const char *path, unsigned mode, char *scratch, size_t scratch_bytes,
                       int *out) {
    directory_of(path, scratch, scratch_bytes);
    int error = open_at(scratch, O_TMPFILE, mode, out);
    scratch[0] = '\0';
    if (error != EOPNOTSUPP && error != EISDIR && error != ENOENT) return error;
    struct lu__text text;
    lu__text_init(&text, scratch, scratch_bytes);
    lu__text_add(&text, "%s.%lx.new", path, (unsigned long)(lu__os_random() ^ lu__os_now_ms()));
    return open_at(scratch, O_CREAT | O_EXCL, mode, out);
}

int lu__os_file_publish(int fd, const char *scratch, const char *path) {
    if (path[0] == '\0' && scratch[0] == '\0') return ENOENT;
    if (scratch[0] != '\0') {
        int error = error_of(
            lu__syscall(SYS_linkat, AT_FDCWD, (long)scratch, AT_FDCWD, (long)path, 0, 0));
        (void)lu__syscall(SYS_unlinkat, AT_FDCWD, (long)scratch, 0, 0, 0, 0);
        return error;
    }
    char link[48];
    struct lu__text text;
    lu__text_init(&text, link, sizeof link);
    lu__text_add(&text, "/proc/self/fd/%d", fd);
    long done = lu__syscall(SYS_linkat, AT_FDCWD, (long)link, AT_FDCWD, (long)path,
                            AT_SYMLINK_FOLLOW, 0);
    if (done == -ENOENT) { /* no /proc here: needs a privilege, so it is the second choice */
        done = lu__syscall(SYS_linkat, fd, (long)"", AT_FDCWD, (long)path, AT_EMPTY_PATH, 0);
    }
    return error_of(done);
}

int lu__os_file_info(int fd, struct lu__os_file_info *out) {
    struct stat status;
    int kept = errno;
    if (fstat(fd, &status) != 0) { /* no cancellation point */
        int error = errno;
        errno = kept;
        return error;
    }
    out->bytes = (uint64_t)status.st_size;
    out->device = (uint64_t)status.st_dev;
    out->inode = (uint64_t)status.st_ino;
    out->regular = S_ISREG(status.st_mode);
    return 0;
}

int lu__os_file_read(int fd, uint64_t from, void *to, size_t size) {
    char *at = to;
    while (size > 0) {
        long got = lu__syscall(SYS_pread64, fd, (long)at, (long)size, (long)from, 0, 0);
        if (got == -EINTR) continue;
        if (got <= 0) return got < 0 ? (int)-got : EIO;
        at += got;
        from += (uint64_t)got;
        size -= (size_t)got;
    }
    return 0;
}

int lu__os_file_resize(int fd, uint64_t size) {
    struct rlimit limit;
    if (lu__syscall(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, (long)&limit, 0, 0) == 0 &&
        size > limit.rlim_cur) {
        return EFBIG;
    }
    long done;
    do {
        done = lu__syscall(SYS_ftruncate, fd, (long)size, 0, 0, 0, 0);
    } while (done == -EINTR);
    return error_of(done);
}

int lu__os_file_allocate(int fd, uint64_t from, uint64_t size) {
    long done;
    do {
        done = lu__syscall(SYS_fallocate, fd, FALLOC_FL_KEEP_SIZE, (long)from, (long)size, 0, 0);
    } while (done == -EINTR);
    return done == -EOPNOTSUPP || done == -ENOSYS ? 0 : error_of(done);
}

int lu__os_file_lock(int fd, uint64_t byte, enum lu__os_file_lock kind, bool wait) {
    static const short kinds[] = {F_UNLCK, F_RDLCK, F_WRLCK};
    struct flock lock = {
        .l_type = kinds[kind], .l_whence = SEEK_SET, .l_start = (off_t)byte, .l_len = 1};
    long done;
    do {
        done = lu__syscall(SYS_fcntl, fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, (long)&lock, 0, 0, 0);
    } while (done == -EINTR);
    return done == -EACCES ? EAGAIN : error_of(done);
}

void lu__os_file_close(int fd) {
    (void)lu__syscall(SYS_close, fd, 0, 0, 0, 0, 0);
}

/* mmap of shared memory; `wish` is only a hint: no existing mapping is replaced. */
static int map(void *wish, size_t size, int flags, int fd, void **out) {
    long result = lu__kernel_memory_call(SYS_mmap, (long)wish, (long)size, PROT_READ | PROT_WRITE,
                                         MAP_SHARED | flags, fd, 0);
    if (lu__kernel_failed(result)) return error_of(result);
    *out = (void *)result;
    return 0;
}

int lu__os_file_map(int fd, void *wish, size_t size, void **out) {
    return map(wish, size, 0, fd, out);
}

int lu__os_shared_map(void *wish, size_t size, void **out) {
    return map(wish, size, MAP_ANONYMOUS | MAP_NORESERVE, -1, out);
}

int lu__os_file_forget(void *at, size_t size) {
    return error_of(lu__kernel_memory_call(SYS_mmap, (long)at, (long)size, PROT_READ | PROT_WRITE,
                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
                                           -1, 0));
}

int lu__os_file_sync(void *at, size_t size) {
    long done;
    do {
        done = lu__syscall(SYS_msync, (long)at, (long)size, MS_SYNC, 0, 0, 0);
    } while (done == -EINTR);
    return error_of(done);
}

int lu__os_file_punch(void *at, size_t size) {
    return error_of(
        lu__kernel_memory_call(SYS_madvise, (long)at, (long)size, MADV_REMOVE, 0, 0, 0));
}
