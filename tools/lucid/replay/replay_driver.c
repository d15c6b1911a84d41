/*
 * replay_driver.c - a program on the malloc of this process.
 *
 * `lucid replay` starts the command anew with an allocator preloaded; this is what runs then. All
 * tables are shared memory, so what is resident, private and anonymous beyond what was there at
 * the start is the allocator's: blocks, headers, free memory that it keeps, its own structures (and
 * some KiB of stack for each thread of the trace). The kernel is asked by smaps_rollup, which
 * counts pages; the sums in statm are estimates on a machine with several processors.
 *
 * Only the malloc family may be called between the first and the last event, and what calls none
 * of it: no stdio.
 */
#include "replay/replay.h"
#include "replay/replay_parts.h"

#include "frame/frame.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct driver {
    uint64_t before; /* private memory at the start */
    struct replay_outcome *outcome;
};

static void *driver_alloc(void *self, const struct replay_op *op) {
    (void)self;
    if (op->align_log > 4) return memalign((size_t)1 << op->align_log, op->size);
    return op->zeroed ? calloc(1, op->size) : malloc(op->size);
}

static void *driver_resize(void *self, void *block, const struct replay_op *op) {
    (void)self;
    return realloc(block, op->size > 0 ? op->size : 1);
}

static void driver_free(void *self, void *block) {
    (void)self;
    free(block);
}

/* Bytes; 0 if the kernel does not tell. */
static uint64_t private_bytes(void) {
    static const char key[] = "\nAnonymous:";
    char text[4096];
    int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t got = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (got <= 0) return 0;
    text[got] = '\0';
    const char *found = strstr(text, key);
    return found != NULL ? 1024 * strtoull(found + sizeof(key) - 1, NULL, 10) : 0;
}

static void driver_sample(void *self, struct replay_sample *sample) {
    const struct driver *driver = self;
    uint64_t now = private_bytes();
    sample->held = sample->resident = now > driver->before ? now - driver->before : 0;
}

static void *map_fd(const char *number) {
    struct stat status;
    int fd = atoi(number);
    if (fd <= 2 || fstat(fd, &status) != 0) return NULL;
    void *at = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return at != MAP_FAILED ? at : NULL;
}

int replay_driver_main(int argc, char **argv) {
    struct driver driver = {0};
    const struct replay_program *program = argc == 3 ? map_fd(argv[1]) : NULL;
    driver.outcome = argc == 3 ? map_fd(argv[2]) : NULL;
    if (program == NULL || driver.outcome == NULL)
        tool_die("%s is for 'lucid replay' alone", REPLAY_DRIVER);
    const struct replay_engine engine = {.alloc = driver_alloc,
                                         .resize = driver_resize,
                                         .free = driver_free,
                                         .sample = driver_sample,
                                         .self = &driver};
    Dl_info info;
    void *used = dlsym(RTLD_DEFAULT, "malloc");
    if (used != NULL && dladdr(used, &info) != 0)
        strncpy(driver.outcome->library, info.dli_fname, sizeof(driver.outcome->library) - 1);
    driver.before = private_bytes();
    if (driver.before == 0) replay_fail(driver.outcome, "/proc/self/smaps_rollup tells nothing");
    replay_run(program, &engine, driver.outcome);
    _exit(0);
}
