/*
 * probe_misuse.c - one misuse of malloc for each name. What happens then is the allocator's; a
 * program that is still there afterwards tells what it found.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "probe/probe_list.h"

enum { SMALL = 24, LARGE = 1 << 20, OTHERS = 20, AGAIN = 1000 };
enum { SECONDS_WORKED = 2, SECONDS_PASSED = 20 };

static char *block_of(size_t bytes) {
    char *block = probe_hidden((char *)malloc(bytes));
    if (block == NULL) probe_die("no memory");
    memset(block, 'x', bytes);
    return block;
}

static void survived(const char *what) {
    probe_text("result", "not noticed: %s", what);
}

static void double_free(void) {
    char *block = block_of(SMALL);
    free(block);
    free(probe_hidden(block));
    survived("the block is now twice among the free ones");
}

static void double_free_later(void) {
    char *others[OTHERS], *block = block_of(SMALL);
    for (int i = 0; i < OTHERS; i++) others[i] = block_of(SMALL);
    free(block);
    for (int i = 0; i < OTHERS; i++) free(others[i]);
    free(probe_hidden(block));
    survived("the block is now twice among the free ones");
}

static void double_free_large(void) {
    char *block = block_of(LARGE);
    free(block);
    free(probe_hidden(block));
    survived("nothing");
}

static void free_of_stack(void) {
    char local[100] = "not from malloc";
    free(probe_hidden(local + 16));
    survived("a piece of the stack is now free memory");
}

static void free_inside(void) {
    char *block = block_of(200);
    free(probe_hidden(block + 48));
    survived("the block has a hole");
}

static void overflow(void) {
    char *first = block_of(SMALL), *second = block_of(SMALL);
    char *block = first < second ? first : second; /* there may be one behind it */
    for (int i = 0; i < 8; i++) ((volatile char *)probe_hidden(block))[SMALL + i] = 'A';
    free(first);
    free(second);
    for (int i = 0; i < AGAIN; i++) free(block_of(SMALL));
    survived("what was behind it is overwritten");
}

static void write_after_free(void) {
    static char *again[AGAIN];
    char *block = block_of(SMALL);
    free(block);
    for (int i = 0; i < SMALL; i++) ((volatile char *)probe_hidden(block))[i] = 'A';
    for (int i = 0; i < AGAIN; i++) again[i] = block_of(SMALL);
    for (int i = 0; i < AGAIN; i++) free(again[i]);
    survived("nothing");
}

static void read_after_free(void) {
    char *block = block_of(200);
    free(block);
    int kept = 0;
    for (int i = 0; i < 200; i++) kept += ((volatile char *)probe_hidden(block))[i] == 'x';
    probe_number("kept", kept);
    probe_text("result", "not noticed: %d of 200 bytes are still there", kept);
}

static void use_after_free_large(void) {
    char *block = block_of(LARGE);
    free(block);
    ((volatile char *)probe_hidden(block))[LARGE / 2] = 'A';
    survived("the write went somewhere");
}

static const struct {
    const char *name;
    void (*misuse)(void);
} misuses[] = {
    {"double_free", double_free},
    {"double_free_later", double_free_later},
    {"double_free_large", double_free_large},
    {"free_of_stack", free_of_stack},
    {"free_inside", free_inside},
    {"overflow", overflow},
    {"write_after_free", write_after_free},
    {"read_after_free", read_after_free},
    {"use_after_free_large", use_after_free_large},
};

/* A list that was bent into a circle may keep an allocator busy for ever, and a lock that is not
 * given back may keep it waiting; and nobody wants dumps of what is done here on purpose. */
static void set_limits(void) {
    struct rlimit seconds = {SECONDS_WORKED, SECONDS_WORKED + 1};
    setrlimit(RLIMIT_CPU, &seconds);
    alarm(SECONDS_PASSED);
    prctl(PR_SET_DUMPABLE, 0);
}

int probe_misuse(int argc, char **argv) {
    set_limits();
    for (size_t i = 0; argc > 1 && i < sizeof misuses / sizeof misuses[0]; i++) {
        if (strcmp(misuses[i].name, argv[1]) != 0) continue;
        misuses[i].misuse();
        return 0;
    }
    probe_die("no such misuse");
}
