/*
 * files.c - see files.h. Anything that fails here ends the test with a message: a test without its
 * scratch space has tested nothing.
 */
#include "files.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static char directory[256];
static pid_t owner;

static void fail(const char *what) {
    perror(what);
    exit(2);
}

static void clean(void) {
    if (getpid() != owner) return;
    DIR *entries = opendir(directory);
    if (entries == NULL) return;
    char path[600];
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (unlink(path) != 0) (void)rmdir(path);
    }
    closedir(entries);
    (void)rmdir(directory);
}

const char *files_path(const char *name) {
    static char path[512];
    if (directory[0] == '\0') {
        const char *base = getenv("TMPDIR");
        snprintf(directory, sizeof directory, "%s/lucid-store-XXXXXX", base ? base : "/tmp");
        if (mkdtemp(directory) == NULL) fail(directory);
        owner = getpid();
        atexit(clean);
    }
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

void *files_share(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) fail("mmap");
    return memory;
}

unsigned char *files_read(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) fail(path);
    *size = (size_t)ftell(file);
    rewind(file);
    unsigned char *bytes = malloc(*size + 1);
    if (bytes == NULL || fread(bytes, 1, *size, file) != *size) fail(path);
    fclose(file);
    return bytes;
}

/* Not by way of an empty file: some file systems then wait for the disk. */
void files_write(const char *path, const void *bytes, size_t size) {
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    if (fd < 0 || write(fd, bytes, size) != (ssize_t)size || ftruncate(fd, (off_t)size) != 0 ||
        close(fd) != 0) {
        fail(path);
    }
}

int files_count(const char *path) {
    int count = 0;
    DIR *entries = opendir(path);
    if (entries == NULL) return -1;
    while (readdir(entries) != NULL) count++;
    closedir(entries);
    return count;
}
