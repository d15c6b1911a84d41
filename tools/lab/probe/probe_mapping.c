/*
 * probe_mapping.c - what a mapping of a file and one between processes are: each fact is 1 if it is
 * as it should be.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe/probe_list.h"

static const char content[] = "Hello, mmap!";
enum { LENGTH = sizeof content - 1 };

static void *map(size_t bytes, int flags, int fd) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (at == MAP_FAILED) probe_die("mmap failed");
    return at;
}

/* What the file has at its beginning. */
static bool file_is(int fd, const char *expected) {
    char bytes[LENGTH];
    return pread(fd, bytes, LENGTH, 0) == LENGTH && memcmp(bytes, expected, LENGTH) == 0;
}

/* The signal that reading the address ends a child with; 0: none. */
static int signal_of(const volatile char *address) {
    int status;
    pid_t pid = fork();
    if (pid < 0) probe_die("cannot fork");
    if (pid == 0) {
        signal(SIGBUS, SIG_DFL);
        signal(SIGSEGV, SIG_DFL);
        _exit(*address == 0 ? 0 : 1);
    }
    if (waitpid(pid, &status, 0) != pid) probe_die("cannot wait");
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* A file of TMPDIR that has no name any more: it lives as long as it is open. */
static int make_file(void) {
    char name[400];
    const char *place = getenv("TMPDIR");
    if (place == NULL || place[0] == '\0') place = "/tmp";
    snprintf(name, sizeof name, "%s/lucid-lab-XXXXXX", place);
    int fd = mkstemp(name);
    if (fd >= 0) unlink(name);
    if (fd < 0 || write(fd, content, LENGTH) != LENGTH) {
        probe_die("cannot make a file in %s", place);
    }
    return fd;
}

static void tell_file(const char *name, int fd) {
    char bytes[LENGTH + 1] = "";
    ssize_t length = pread(fd, bytes, LENGTH, 0);
    probe_text(name, "%.*s", length > 0 ? (int)length : 0, bytes);
}

static void map_file(void) {
    size_t page = probe_page();
    int fd = make_file();
    tell_file("content_before", fd);
    char *at = map(2 * page, MAP_SHARED, fd);
    probe_number("file_read", memcmp(at, content, LENGTH) == 0);
    memcpy(at + 7, "World", 5);
    tell_file("content_after", fd);
    probe_number("file_written", file_is(fd, "Hello, World"));
    probe_number("synced", msync(at, page, MS_SYNC) == 0);
    char *own = map(page, MAP_PRIVATE, fd);
    memcpy(own, "Hidden", 6);
    probe_number("private_kept", file_is(fd, "Hello, World"));
    bool zero = true;
    for (size_t i = LENGTH; i < page; i++) zero = zero && at[i] == 0;
    probe_number("tail_zero", zero);
    at[LENGTH] = '!';
    probe_number("tail_lost", lseek(fd, 0, SEEK_END) == LENGTH);
    probe_number("bus_error", signal_of(at + page) == SIGBUS);
    munmap(own, page);
    munmap(at, 2 * page);
    probe_number("unmapped", signal_of(at) == SIGSEGV);
    close(fd);
}

/* Pages of a file come when they are touched, one by one or a few around it. */
static void map_lazily(void) {
    enum { PAGES = 512 };
    size_t page = probe_page();
    int fd = make_file();
    if (ftruncate(fd, (off_t)(PAGES * page)) != 0) probe_die("cannot make a long file");
    char *at = map(PAGES * page, MAP_SHARED, fd);
    size_t before = probe_resident();
    at[PAGES / 2 * page] = 1;
    size_t one = probe_resident() - before;
    probe_touch(at, PAGES * page);
    probe_number("lazy_mapped", (double)(PAGES * page));
    probe_number("lazy_one", (double)one);
    probe_number("lazy_all", (double)probe_resident() - (double)before);
    munmap(at, PAGES * page);
    close(fd);
}

/* Parent and child on two mappings, one shared. */
static void share(void) {
    size_t page = probe_page();
    char *shared = map(page, MAP_SHARED | MAP_ANONYMOUS, -1);
    char *private = map(page, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    int status;
    strcpy(shared, "from the parent");
    pid_t pid = fork();
    if (pid < 0) probe_die("cannot fork");
    if (pid == 0) {
        bool seen = strcmp(shared, "from the parent") == 0;
        strcpy(shared, "from the child");
        strcpy(private, "from the child");
        _exit(seen ? 0 : 1);
    }
    if (waitpid(pid, &status, 0) != pid) probe_die("cannot wait");
    probe_number("child_sees", status == 0);
    probe_number("parent_sees", strcmp(shared, "from the child") == 0);
    probe_number("private_apart", private[0] == '\0');
}

int probe_mapping(int argc, char **argv) {
    (void)argc, (void)argv;
    map_file();
    map_lazily();
    share();
    return 0;
}
