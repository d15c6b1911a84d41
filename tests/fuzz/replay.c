/*
 * replay.c - main for a fuzzing harness without a fuzzer: every file named on the command line, and
 * every file in a directory named there, goes through LLVMFuzzerTestOneInput once.
 *
 * Ends with 0 after all of them; a harness that finds something ends the program itself, and the
 * last line printed names the input. No input at all is a failure.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fail(const char *what, const char *path) {
    fprintf(stderr, "replay: %s: %s\n", path, what);
    exit(1);
}

static void replay_file(const char *path) {
    struct stat status;
    FILE *file = fopen(path, "rb");
    if (file == NULL || fstat(fileno(file), &status) != 0) fail("cannot be opened", path);
    size_t size = (size_t)status.st_size;
    uint8_t *data = malloc(size + 1);
    if (data == NULL || fread(data, 1, size, file) != size) fail("cannot be read", path);
    fclose(file);
    printf("%s (%zu bytes)\n", path, size);
    fflush(stdout);
    (void)LLVMFuzzerTestOneInput(data, size);
    free(data);
}

/* Number of files. */
static size_t replay(const char *path) {
    struct stat status;
    if (stat(path, &status) != 0) fail("is not there", path);
    if (!S_ISDIR(status.st_mode)) {
        replay_file(path);
        return 1;
    }
    struct dirent **entries;
    int found = scandir(path, &entries, NULL, alphasort);
    size_t count = 0;
    if (found < 0) fail("cannot be listed", path);
    for (int i = 0; i < found; i++) {
        char inside[4096];
        if (entries[i]->d_name[0] != '.') {
            snprintf(inside, sizeof inside, "%s/%s", path, entries[i]->d_name);
            count += replay(inside);
        }
        free(entries[i]);
    }
    free(entries);
    return count;
}

int main(int argc, char **argv) {
    size_t count = 0;
    for (int i = 1; i < argc; i++) count += replay(argv[i]);
    if (count == 0) fail("no input", argc > 1 ? argv[1] : "usage: replay FILE|DIRECTORY...");
    printf("%zu inputs\n", count);
    return 0;
}
