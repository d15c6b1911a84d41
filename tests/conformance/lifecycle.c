/*
 * lifecycle.c - malloc from the first instruction of the program to its last.
 *
 * Before main: preinit_array functions, which run before the constructors of any library, and
 * constructors of early and late priority. After main: handlers of atexit and on_exit, destructors
 * by priority, and stdio's own buffers. Blocks cross all of these borders. The program runs itself
 * a second time to see the exit status of the part after main.
 */
#include <pthread.h>
#include <sys/wait.h>

#include "check.h"
#include "family.h"

enum { STAGES = 4, BLOCKS = 60 };

static struct stage {
    const char *name;
    void *blocks[BLOCKS];
    size_t sizes[BLOCKS];
} stages[STAGES];

/* Allocate with every function, and free some of it again. */
static void allocate_stage(size_t number, const char *name) {
    struct stage *stage = &stages[number];
    uint64_t state = number;
    stage->name = name;
    for (size_t i = 0; i < BLOCKS; i++) {
        const struct family *family = &family_table[i % FAMILY_COUNT];
        size_t size = check_random_size(&state, i == 0 ? 21 : 12);
        free(malloc(size));
        stage->sizes[i] = size;
        stage->blocks[i] = family->alloc(size);
        CHECK_THAT(stage->blocks[i] != NULL, "%s: %s gave NULL for %zu", name, family->name, size);
        if (family->zeroed) CHECK_ZERO(stage->blocks[i], size);
        check_fill(stage->blocks[i], size, number * BLOCKS + i);
    }
}

/* Resize and free the blocks of a stage; each third stays for the end of the process. */
static void end_stage(size_t number) {
    struct stage *stage = &stages[number];
    CHECK_THAT(stage->name != NULL, "stage %zu never ran", number);
    for (size_t i = 0; i < BLOCKS; i++) {
        if (stage->blocks[i] == NULL) continue;
        CHECK_FILLED(stage->blocks[i], stage->sizes[i], number * BLOCKS + i);
        if (i % 3 == 0) continue;
        stage->blocks[i] = realloc(stage->blocks[i], stage->sizes[i] + 1000);
        CHECK(stage->blocks[i] != NULL);
        free(stage->blocks[i]);
        stage->blocks[i] = NULL;
    }
}

static void free_rest(void) {
    for (size_t number = 0; number < STAGES; number++) {
        for (size_t i = 0; i < BLOCKS; i++) {
            if (stages[number].blocks[i] == NULL) continue;
            CHECK_FILLED(stages[number].blocks[i], stages[number].sizes[i], number * BLOCKS + i);
            free(stages[number].blocks[i]);
            stages[number].blocks[i] = NULL;
        }
    }
}

static void at_preinit(int argc, char **argv, char **environment) {
    (void)argc, (void)argv, (void)environment;
    allocate_stage(0, "preinit_array");
}
__attribute__((section(".preinit_array"), used)) static void (*const preinit)(int, char **,
                                                                              char **) = at_preinit;

__attribute__((constructor(101))) static void first_constructor(void) {
    allocate_stage(1, "constructor(101)");
}

static void *thread_of_constructor(void *arg) {
    (void)arg;
    allocate_stage(2, "thread of a constructor");
    return NULL;
}

/* A thread that starts and ends before main. */
__attribute__((constructor)) static void last_constructor(void) {
    pthread_t thread;
    end_stage(0);
    CHECK_EQ(pthread_create(&thread, NULL, thread_of_constructor, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

/* ------------------------------------------------------------------ after main --------------- */

static bool ends; /* this process is the one whose end is checked */
static int handlers_run;

static void use_malloc_at_exit(void) {
    for (size_t f = 0; f < FAMILY_COUNT; f++) {
        void *block = family_table[f].alloc(f * 3000);
        CHECK(block != NULL);
        block = realloc(block, 100000);
        CHECK(block != NULL);
        free(block);
    }
    handlers_run++;
}

static void exit_handler(void) {
    use_malloc_at_exit();
    end_stage(2);
    malloc_trim(0);
}

static void on_exit_handler(int status, void *arg) {
    CHECK_EQ(status, 7);
    CHECK_FILLED(arg, 5000, 1);
    free(arg);
    use_malloc_at_exit();
}

/* A handler that is registered while handlers run. */
static void nested_handler(void) {
    use_malloc_at_exit();
    atexit(use_malloc_at_exit);
}

__attribute__((destructor)) static void first_destructor(void) {
    if (ends) use_malloc_at_exit();
}

__attribute__((destructor(101))) static void last_destructor(void) {
    if (!ends) return;
    use_malloc_at_exit();
    free_rest();
    CHECK_EQ(handlers_run, 6);
    check_passed("  6 handlers and destructors allocated and freed after main");
}

static void end_process(void) {
    ends = true;
    CHECK_EQ(atexit(exit_handler), 0);
    CHECK_EQ(atexit(nested_handler), 0);
    void *block = malloc(5000);
    CHECK(block != NULL);
    check_fill(block, 5000, 1);
    CHECK_EQ(on_exit(on_exit_handler, block), 0);
    printf("%s", "buffered until the end\n");
    exit(7);
}

/* A heap that was made before there was an environment follows what that says all the same. */
static void is_hardened(void) {
    const char *options = getenv("LUCID_OPTIONS");
    if (options == NULL || strstr(options, "harden:") == NULL) return;
    void *block = check_hidden(
        malloc(24)); /* of a class of 32 bytes, of which the canary takes 8 */
    CHECK_EQ(malloc_usable_size(block), 24);
    free(block);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    is_hardened();
    for (size_t i = 0; i < 3; i++) {
        end_stage(i);
        check_passed("blocks from %s", stages[i].name);
    }
    allocate_stage(3, "main");
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) end_process();
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_THAT(WIFEXITED(status) && WEXITSTATUS(status) == 7, "the child ended with status 0x%x",
               (unsigned)status);
    end_stage(3);
    free_rest();
    check_passed("atexit, on_exit and destructors");
    return 0;
}
