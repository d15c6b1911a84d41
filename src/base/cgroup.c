/*
 * cgroup.c - LUCID_OPTIONS=limit:cgroup: how much memory the process's control group allows.
 *
 * /proc/self/cgroup names the group, one line per hierarchy:
 *
 *     4:memory:/a/b      version 1: limits in /sys/fs/cgroup/memory/a/b/memory.limit_in_bytes
 *     0::/a/b            version 2: limits in /sys/fs/cgroup/a/b/memory.max and memory.high
 *
 * If a hierarchy of version 1 has the memory controller, it is used, because version 2 then does
 * not have it. Limits hold for all groups below, so the lowest limit on the way to the root counts.
 * Missing directories are skipped: in a container the mount often begins at the process's own
 * group, while the path is that on the host.
 *
 * The rule: beyond memory.high the kernel slows processes down, so memory.high is used as it is.
 * Beyond memory.max the kernel kills them, so a sixteenth of it, at least 8 and at most 256 MiB
 * (and never more than half), is left for memory that is not heap: stacks, page tables, static
 * data, buffers of the kernel, other processes of the group. The limit is the lower of the two.
 * Files are read when the option is set; later changes of the group are not followed.
 *
 * No state. System calls go through syscall(2), which no other library replaces. Any thread may
 * call.
 */
#include "base/cgroup.h"

#include "base/format.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PATH_BYTES 1024
#define TEXT_BYTES 4096
#define UNLIMITED ((size_t)1 << 60) /* version 1 has no word for "none", but 2^63 less a page */
#define REST_LEAST (8 * LU_MIB)
#define REST_MOST (256 * LU_MIB)

/* ------------------------------------------------------------------ text --------------------- */

/* True if the list of controllers, between commas, has "memory" in it. */
static bool has_memory(const char *list, size_t length) {
    static const char word[] = "memory";
    while (length > 0) {
        const char *comma = memchr(list, ',', length);
        size_t item = comma != NULL ? (size_t)(comma - list) : length;
        if (item == sizeof word - 1 && memcmp(list, word, item) == 0) return true;
        item += comma != NULL;
        list += item;
        length -= item;
    }
    return false;
}

bool lu__cgroup_find(const char *text, size_t length, const char **path, size_t *path_bytes,
                     bool *v1) {
    bool found = false;
    while (length > 0) {
        const char *newline = memchr(text, '\n', length);
        size_t line = newline != NULL ? (size_t)(newline - text) : length;
        const char *first = memchr(text, ':', line);
        const char *list = first != NULL ? first + 1 : NULL;
        const char *second = list != NULL ? memchr(list, ':', line - (size_t)(list - text)) : NULL;
        if (second != NULL && second + 1 < text + line && second[1] == '/') {
            bool unified = first == text + 1 && *text == '0' && second == list;
            bool memory = has_memory(list, (size_t)(second - list));
            if (memory || (unified && !found)) {
                *path = second + 1;
                *path_bytes = (size_t)(text + line - *path);
                *v1 = memory;
                found = true;
            }
            if (memory) return true;
        }
        line += newline != NULL;
        text += line;
        length -= line;
    }
    return found;
}

size_t lu__cgroup_number(const char *text, size_t length) {
    size_t value = 0, i = 0;
    for (; i < length && text[i] >= '0' && text[i] <= '9'; i++) {
        if (__builtin_mul_overflow(value, (size_t)10, &value) ||
            __builtin_add_overflow(value, (size_t)(text[i] - '0'), &value))
            return LU_CGROUP_NONE;
    }
    if (i == 0 || (i < length && text[i] != '\n') || value >= UNLIMITED) return LU_CGROUP_NONE;
    return value;
}

/* ------------------------------------------------------------------ files -------------------- */

/* Read a file into `text`; its length, or -1 if it cannot be read or does not fit. */
static long read_file(const char *path, char *text, size_t text_bytes) {
    long fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return -1;
    size_t length = 0;
    long got = 1;
    while (got > 0 && length < text_bytes) {
        got = syscall(SYS_read, fd, text + length, text_bytes - length);
        if (got > 0) length += (size_t)got;
    }
    (void)syscall(SYS_close, fd);
    return got == 0 ? (long)length : -1;
}

/* The limit in one file of the group at `path`. */
static size_t read_limit(const char *root, const char *mount, const char *path, size_t path_bytes,
                         const char *name) {
    char file[PATH_BYTES + 64], number[64];
    struct lu__text text;
    lu__text_init(&text, file, sizeof file);
    lu__text_add(&text, "%s%s", root, mount);
    if (text.need + path_bytes + strlen(name) + 2 > sizeof file) return LU_CGROUP_NONE;
    memcpy(file + text.need, path, path_bytes);
    lu__text_init(&text, file + text.need + path_bytes, sizeof file - text.need - path_bytes);
    lu__text_add(&text, "/%s", name);
    long length = read_file(file, number, sizeof number);
    return length < 0 ? LU_CGROUP_NONE : lu__cgroup_number(number, (size_t)length);
}

/* The path of the parent; its length, without the slash at its end. */
static size_t parent_of(const char *path, size_t path_bytes) {
    while (path_bytes > 0 && path[path_bytes - 1] != '/') path_bytes--;
    return path_bytes > 0 ? path_bytes - 1 : 0;
}

/* A group above the root that the process can see begins with "/..": no path to walk. */
static bool leads_out(const char *path, size_t path_bytes) {
    return path_bytes >= 3 && memcmp(path, "/..", 3) == 0 && (path_bytes == 3 || path[3] == '/');
}

static void read_tree(const char *root, const char *path, size_t path_bytes, bool v1,
                      struct lu__cgroup_memory *out) {
    const char *mount = v1 ? "/sys/fs/cgroup/memory" : "/sys/fs/cgroup";
    if (leads_out(path, path_bytes)) path_bytes = 0;
    if (path_bytes == 1) path_bytes = 0; /* "/" */
    for (;;) {
        size_t max = read_limit(root, mount, path, path_bytes,
                                v1 ? "memory.limit_in_bytes" : "memory.max");
        out->max = LU_MIN(out->max, max);
        if (!v1) {
            size_t high = read_limit(root, mount, path, path_bytes, "memory.high");
            out->high = LU_MIN(out->high, high);
        }
        if (path_bytes == 0) return;
        path_bytes = parent_of(path, path_bytes);
    }
}

bool lu__cgroup_read(const char *root, struct lu__cgroup_memory *out) {
    char file[PATH_BYTES], groups[TEXT_BYTES];
    struct lu__text text;
    const char *path = NULL;
    size_t path_bytes = 0;
    bool v1 = false;
    int saved = errno;
    *out = (struct lu__cgroup_memory){LU_CGROUP_NONE, LU_CGROUP_NONE};
    lu__text_init(&text, file, sizeof file);
    lu__text_add(&text, "%s/proc/self/cgroup", root);
    long length = text.need < sizeof file ? read_file(file, groups, sizeof groups) : -1;
    bool found = length > 0 && lu__cgroup_find(groups, (size_t)length, &path, &path_bytes, &v1) &&
                 path_bytes < PATH_BYTES / 2;
    if (found) read_tree(root, path, path_bytes, v1, out);
    errno = saved;
    return found;
}

size_t lu__cgroup_limit(const struct lu__cgroup_memory *memory) {
    size_t limit = memory->high;
    if (memory->max != LU_CGROUP_NONE) {
        size_t rest = LU_MIN(LU_MAX(memory->max / 16, REST_LEAST), REST_MOST);
        limit = LU_MIN(limit, memory->max - LU_MIN(rest, memory->max / 2));
    }
    /* A limit of 0 would be none at all. */
    return limit == LU_CGROUP_NONE ? 0 : LU_MAX(limit, LU_MIB);
}
