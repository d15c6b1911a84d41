/*
 * module_user.c - shared objects that come and go use the same malloc as the program.
 *
 * Loads module.so (path: first argument) hundreds of times, from the main thread and from others;
 * blocks of the module are freed by the program, before and after the module is gone, and blocks
 * of the program by the module. dlopen and dlclose themselves allocate and free.
 */
#include <pthread.h>

#include "check.h"
#include "family.h"

static const char *path;

struct module {
    void *handle;
    void *(*make)(size_t size);
    void (*end)(void *block);
    char *(*name)(void);
    void (*at_thread_exit)(void);
};

static struct module load(void) {
    struct module module = {.handle = dlopen(path, RTLD_NOW | RTLD_LOCAL)};
    CHECK_THAT(module.handle != NULL, "%s", dlerror());
    module.make = (void *(*)(size_t))check_symbol(module.handle, "module_make");
    module.end = (void (*)(void *))check_symbol(module.handle, "module_end");
    module.name = (char *(*)(void))check_symbol(module.handle, "module_name");
    module.at_thread_exit = (void (*)(void))check_symbol(module.handle, "module_at_thread_exit");
    CHECK(strcmp(module.name(), "module") == 0);
    return module;
}

/* A module that a thread's end still needs is not unloaded before it: that is one way to end. */
static void there_and_back(size_t round, bool to_thread_end) {
    void *theirs[40], *ours[40];
    size_t sizes[40];
    uint64_t state = round;
    struct module module = load();
    if (to_thread_end) module.at_thread_exit();
    for (size_t i = 0; i < 40; i++) {
        sizes[i] = check_random_size(&state, i == 0 ? 20 : 13);
        theirs[i] = module.make(sizes[i]);
        ours[i] = malloc(sizes[i]);
        CHECK(theirs[i] != NULL && ours[i] != NULL);
        CHECK(malloc_usable_size(theirs[i]) >= sizes[i]);
        check_fill(theirs[i], sizes[i], i);
        check_fill(ours[i], sizes[i], i + 100);
    }
    for (size_t i = 0; i < 40; i++) {
        CHECK_FILLED(ours[i], sizes[i], i + 100);
        module.end(ours[i]);
        if (i % 2 == 0) free(theirs[i]);
    }
    CHECK_EQ(dlclose(module.handle), 0);
    for (size_t i = 1; i < 40; i += 2) {
        CHECK_FILLED(theirs[i], sizes[i], i);
        theirs[i] = realloc(theirs[i], sizes[i] + 100);
        CHECK(theirs[i] != NULL);
        free(theirs[i]);
    }
}

static void *thread_body(void *arg) {
    for (size_t i = 0; i < 100; i++) there_and_back((size_t)(uintptr_t)arg * 1000 + i, i == 50);
    return NULL;
}

static void one_thread_each(void) {
    size_t before = 0, after = 0;
    for (size_t i = 0; i < 10; i++) {
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, thread_body, (void *)i), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        after = check_rss_bytes();
        if (i == 1) before = after;
    }
    CHECK_THAT(after <= before + 8 * CHECK_MIB, "resident %zu KiB, later %zu", before / 1024,
               after / 1024);
}

static void threads_together(void) {
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, thread_body, (void *)(i + 1)), 0);
    }
    for (size_t i = 0; i < 4; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

/* Errors of dlopen allocate a message that belongs to the thread and is freed at its end. */
static void *failing_body(void *arg) {
    (void)arg;
    CHECK(dlopen("/nonexistent/module.so", RTLD_NOW) == NULL);
    CHECK(dlerror() != NULL);
    CHECK(dlopen("/nonexistent/module.so", RTLD_NOW) == NULL);
    return NULL;
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    CHECK_THAT(argc >= 2, "usage: %s MODULE.so [--strict]", argv[0]);
    path = argv[1];
    for (size_t i = 0; i < 200; i++) there_and_back(i, false);
    check_passed("a module loaded and unloaded 200 times; its blocks outlive it");
    one_thread_each();
    threads_together();
    check_passed("the same from threads, one by one and together");
    for (int i = 0; i < 100; i++) {
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, failing_body, NULL), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
    }
    check_passed("messages of dlopen that nobody reads");
    /* And one that stays to the end, with a destructor that runs after main. */
    struct module module = load();
    CHECK(module.make(100) != NULL);
    return 0;
}
