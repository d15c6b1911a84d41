/*
 * file.c - the file of a process that is recorded, and which processes are.
 *
 *     LUCID_RECORD=PID:FLAGS:SESSION:PATH     set by `lucid record`; FLAGS: s sites, c children
 *
 * Process PID records to PATH, which is there already; if it executes another program, that one
 * begins anew. With the flag c its descendants record as well, each to PATH.ITS_PID. Everybody else
 * only passes calls on. The variable is read from /proc, because malloc is called before libc has
 * an environment.
 *
 *     record_page   one page that is zero in a child (MADV_WIPEONFORK), by whichever call it was
 *                   made; so a child never writes into chunks that it shares with its parent
 *     state         in ordinary memory, a copy in the child: RUNNING there and a zero page say
 *                   "I am a child"
 *
 * The file is opened anew for each chunk and not kept open: a program may close descriptors that it
 * does not know, and use the number for a file of its own. Places in it are given out by one atomic
 * addition. Disk blocks are set aside before a chunk is mapped, for a full disk would be SIGBUS.
 */
#include "record/record.h"

#include "record/trace_format.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/format.h"
#include "os/file.h"
#include "os/kernel.h"
#include "os/os.h"

enum state { NEVER, RUNNING, STOPPED };
enum { SETTING_BYTES = PATH_MAX + 64 };

static struct record_page no_page;
struct record_page *record_page = &no_page;
struct record_file record_file;

static struct {
    char path[PATH_MAX + 16];
    size_t path_bytes; /* of the first process's path */
    uint64_t session, inode;
    bool children;
    uint32_t generation; /* of the file that this process writes */
    uint8_t state;       /* enum state; relaxed atomic */
} own;

/* ------------------------------------------------------------------ the setting -------------- */

/* The value of NAME= in /proc/self/environ; false if it is not there or too long. */
static bool read_setting(const char *name, char *value, size_t value_bytes) {
    char buffer[1024];
    size_t matched = 0, used = 0; /* of the name; of the value */
    bool in_name = true, found = false;
    long fd = lu__syscall(SYS_openat, AT_FDCWD, (long)"/proc/self/environ", O_RDONLY | O_CLOEXEC, 0,
                          0, 0);
    if (lu__kernel_failed(fd)) return false;
    for (bool ended = false; !ended;) {
        long got = lu__syscall(SYS_read, fd, (long)buffer, sizeof buffer, 0, 0, 0);
        if (got == -EINTR) continue;
        ended = got <= 0;
        for (long i = 0; i < got && !ended; i++) {
            char c = buffer[i];
            if (found) {
                if (used == value_bytes) break;
                value[used++] = c;
                ended = c == '\0';
            } else if (c == '\0') {
                in_name = true;
                matched = 0;
            } else if (in_name && c == name[matched]) {
                found = name[++matched] == '\0';
            } else {
                in_name = false;
            }
        }
    }
    lu__os_file_close((int)fd);
    return found && used > 0 && value[used - 1] == '\0';
}

/* Digits up to a colon; the place behind it, or NULL. */
static const char *read_number(const char *at, uint64_t *out) {
    *out = 0;
    const char *start = at;
    for (; *at >= '0' && *at <= '9'; at++) *out = *out * 10 + (uint64_t)(*at - '0');
    return at > start && *at == ':' ? at + 1 : NULL;
}

static bool parse_setting(const char *text, uint64_t *pid) {
    text = read_number(text, pid);
    if (text == NULL) return false;
    for (; *text != ':'; text++) {
        if (*text == 's')
            record_file.sites = true;
        else if (*text == 'c')
            own.children = true;
        else
            return false;
    }
    text = read_number(text + 1, &own.session);
    if (text == NULL || *text != '/') return false;
    while (*text != '\0' && own.path_bytes < PATH_MAX) own.path[own.path_bytes++] = *text++;
    return *text == '\0';
}

/* ------------------------------------------------------------------ the header --------------- */

static size_t page_up(size_t bytes) {
    return lu__align_up(bytes, LU_MAX(LU_OS_PAGE, (size_t)TRACE_GRAIN));
}

/* Set the file's blocks aside and make it that long at least. Errno value. */
static int extend(int fd, uint64_t from, size_t bytes) {
    struct rlimit limit;
    if (lu__syscall(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, (long)&limit, 0, 0) == 0 &&
        from + bytes > limit.rlim_cur)
        return EFBIG;
    long done;
    do done = lu__syscall(SYS_fallocate, fd, 0, (long)from, (long)bytes, 0, 0);
    while (done == -EINTR);
    if (done == -EOPNOTSUPP || done == -ENOSYS) {
        do done = lu__syscall(SYS_pwrite64, fd, (long)"", 1, (long)(from + bytes - 1), 0, 0);
        while (done == -EINTR);
    }
    return lu__kernel_failed(done) ? (int)-done : 0;
}

static void *map_file(int fd, uint64_t from, size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)from);
    return memory != MAP_FAILED ? memory : NULL;
}

static uint64_t clock_ns(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static uint32_t read_command(char *to) {
    uint32_t bytes = 0;
    long fd = lu__syscall(SYS_openat, AT_FDCWD, (long)"/proc/self/cmdline", O_RDONLY | O_CLOEXEC, 0,
                          0, 0);
    if (lu__kernel_failed(fd)) return 0;
    while (bytes < TRACE_COMMAND_BYTES) {
        long got = lu__syscall(SYS_read, fd, (long)(to + bytes), TRACE_COMMAND_BYTES - bytes, 0, 0,
                               0);
        if (got == -EINTR) continue;
        if (got <= 0) break;
        bytes += (uint32_t)got;
    }
    lu__os_file_close((int)fd);
    if (bytes > 0) to[bytes - 1] = '\0'; /* also where it was cut */
    return bytes;
}

static void fill_header(struct trace_header *header, size_t bytes) {
    __builtin_memset(header, 0, bytes);
    __builtin_memcpy(header->magic, TRACE_MAGIC, sizeof header->magic);
    header->version = TRACE_VERSION;
    header->byte_order = TRACE_BYTE_ORDER;
    header->bytes = (uint32_t)bytes;
    header->flags = record_file.sites ? TRACE_SITES : 0;
    header->tick_shift = TRACE_TICK_SHIFT;
    header->pid = (uint32_t)getpid();
    header->command_bytes = read_command(header->command);
    header->session = own.session;
    header->real_ns = clock_ns(CLOCK_REALTIME);
    header->crc = crc32c(0, &header->version,
                         offsetof(struct trace_header, end) -
                             offsetof(struct trace_header, version));
    header->end.used = bytes;
}

/* ------------------------------------------------------------------ beginning ---------------- */

static LU_COLD void complain(const char *what, int error) {
    lu__print(STDERR_FILENO, "lucid: nothing is recorded: %s %s: error %d\n", what, own.path,
              error);
}

/* The file of a process that is not the first: new, or of the program that it was before. */
static int open_child_file(int *fd) {
    struct trace_header header;
    long made = lu__syscall(SYS_openat, AT_FDCWD, (long)own.path,
                            O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666, 0, 0);
    if (!lu__kernel_failed(made)) {
        *fd = (int)made;
        return 0;
    }
    if (made != -EEXIST) return (int)-made;
    int error = lu__os_file_open(own.path, fd);
    if (error != 0) return error;
    size_t bytes = offsetof(struct trace_header, command);
    if (lu__os_file_read(*fd, 0, &header, bytes) == 0 && header.session == own.session &&
        header.pid == (uint32_t)getpid())
        return 0;
    lu__os_file_close(*fd);
    return EEXIST;
}

/* Make `fd` the empty trace of this process. Errno value. */
static int begin_file(int fd) {
    struct lu__os_file_info info;
    size_t bytes = page_up(sizeof(struct trace_header));
    int error = lu__os_file_info(fd, &info);
    if (error == 0) error = lu__os_file_resize(fd, 0);
    if (error == 0) error = extend(fd, 0, bytes);
    if (error != 0) return error;
    struct trace_header *header = map_file(fd, 0, bytes);
    if (header == NULL) return errno;
    record_file.start_ns = clock_ns(CLOCK_MONOTONIC);
    fill_header(header, bytes);
    record_file.end = &header->end;
    own.inode = info.inode;
    return 0;
}

/* Events may be recorded from the next instruction on. */
static void set_running(void) {
    __atomic_store_n(&own.state, RUNNING, __ATOMIC_RELAXED);
    own.generation++;
    __atomic_store_n(&record_page->generation, own.generation, __ATOMIC_RELEASE);
}

static void begin(bool first) {
    int fd = -1;
    int error = first ? lu__os_file_open(own.path, &fd) : open_child_file(&fd);
    if (error != 0) {
        complain("cannot open", error);
        return;
    }
    error = begin_file(fd);
    lu__os_file_close(fd);
    if (error != 0)
        complain("cannot write", error);
    else
        set_running();
}

static void name_child_file(void) {
    struct lu__text text;
    lu__text_init(&text, own.path + own.path_bytes, sizeof own.path - own.path_bytes);
    lu__text_add(&text, ".%d", (int)getpid());
}

void record_file_start(void) {
    static char setting[SETTING_BYTES];
    uint64_t pid;
    if (!read_setting("LUCID_RECORD=", setting, sizeof setting)) return;
    if (!parse_setting(setting, &pid)) {
        lu__print(STDERR_FILENO, "lucid: nothing is recorded: LUCID_RECORD is not as 'lucid "
                                 "record' sets it\n");
        return;
    }
    bool first = pid == (uint64_t)getpid();
    if (!first && !own.children) return;
    if (!first) name_child_file();
    void *page = mmap(NULL, LU_OS_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED || madvise(page, LU_OS_PAGE, MADV_WIPEONFORK) != 0) {
        complain("no memory for", errno);
        return;
    }
    record_page = page;
    begin(first);
}

bool record_file_is_on(void) {
    uint8_t state = __atomic_load_n(&own.state, __ATOMIC_RELAXED);
    if (state != RUNNING) return false;
    if (__atomic_load_n(&record_page->generation, __ATOMIC_RELAXED) != 0) return true;
    __atomic_store_n(&own.state, NEVER, __ATOMIC_RELAXED); /* a child */
    record_file.end = NULL;
    if (!own.children) return false;
    name_child_file();
    begin(false);
    return __atomic_load_n(&own.state, __ATOMIC_RELAXED) == RUNNING;
}

/* ------------------------------------------------------------------ while it goes on --------- */

void record_file_lose(void) {
    if (__atomic_load_n(&record_page->generation, __ATOMIC_RELAXED) != 0)
        __atomic_fetch_add(&record_file.end->lost, 1, __ATOMIC_RELAXED);
}

/* No file any more: what is recorded stays. All threads see it at their next event. */
static LU_COLD void stop(const char *why, int error) {
    record_file_lose();
    __atomic_store_n(&own.state, STOPPED, __ATOMIC_RELAXED);
    __atomic_store_n(&record_page->generation, 0, __ATOMIC_RELEASE);
    lu__print(STDERR_FILENO, "lucid: the recording ends here: %s %s: error %d\n", why, own.path,
              error);
}

struct trace_chunk *record_file_take(size_t room) {
    struct lu__os_file_info info;
    int fd;
    room = page_up(room);
    uint64_t from = __atomic_fetch_add(&record_file.end->used, room, __ATOMIC_RELAXED);
    int error = lu__os_file_open(own.path, &fd);
    if (error != 0) {
        stop("cannot open", error);
        return NULL;
    }
    struct trace_chunk *chunk = NULL;
    error = lu__os_file_info(fd, &info);
    if (error == 0 && info.inode != own.inode) error = ESTALE;
    if (error == 0) error = extend(fd, from, room);
    if (error == 0) {
        chunk = map_file(fd, from, room);
        if (chunk == NULL) error = errno;
    }
    lu__os_file_close(fd);
    if (error != 0) {
        stop("cannot write", error);
        return NULL;
    }
    chunk->kind = TRACE_EVENTS;
    chunk->coding = TRACE_PLAIN;
    chunk->room = (uint32_t)room;
    return chunk;
}

void record_file_begin(struct trace_chunk *chunk) {
    chunk->crc = crc32c(0, &chunk->kind,
                        offsetof(struct trace_chunk, data_crc) -
                            offsetof(struct trace_chunk, kind));
    __atomic_store_n(&chunk->magic, TRACE_CHUNK_MAGIC, __ATOMIC_RELEASE);
}

void record_file_seal(struct trace_chunk *chunk, uint32_t events) {
    size_t room = chunk->room;
    chunk->events = events;
    chunk->plain_bytes = chunk->data_bytes;
    size_t head = sizeof(*chunk) - offsetof(struct trace_chunk, sealed);
    /* As it will be; if we are killed in between, the chunk is open with all its events. */
    struct trace_chunk after = *chunk;
    after.sealed = 1;
    uint32_t crc = crc32c(0, &after.sealed, head);
    chunk->data_crc = crc32c(crc, chunk + 1, chunk->data_bytes);
    __atomic_store_n(&chunk->sealed, 1, __ATOMIC_RELEASE);
    munmap(chunk, room);
}

void record_file_at_exit(uint64_t tick) {
    if (__atomic_load_n(&record_page->generation, __ATOMIC_RELAXED) == 0) return;
    record_file.end->tick = tick;
    __atomic_store_n(&record_file.end->ended, 1, __ATOMIC_RELAXED);
}
