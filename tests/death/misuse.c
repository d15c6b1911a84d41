/*
 * misuse.c - the program that misuses malloc in the way its argument names; --list prints all ways.
 *
 * What is printed goes out by write(2), so that stdio does not allocate between a misuse and the
 * check. Core files are switched off: every run but a few ends in abort.
 */
#include "misuse.h"

#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const struct misuse *const tables[] = {misuse_pointer_table, misuse_double_table,
                                              misuse_other_table,   misuse_handler_table,
                                              misuse_hard_table,    misuse_goes_on_table};
enum { TABLES = sizeof tables / sizeof tables[0] };

void misuse_prints(const char *format, ...) {
    char text[300];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(text, sizeof text - 1, format, args);
    va_end(args);
    if (length < 0 || (size_t)length >= sizeof text - 1) misuse_cannot("text too long");
    text[length] = '\n';
    if (write(STDOUT_FILENO, text, (size_t)length + 1) != length + 1) _exit(2);
}

void misuse_cannot(const char *why) {
    static const char intro[] = "misuse: ";
    if (write(STDERR_FILENO, intro, sizeof intro - 1) < 0) _exit(2);
    if (write(STDERR_FILENO, why, strlen(why)) < 0) _exit(2);
    if (write(STDERR_FILENO, "\n", 1) < 0) _exit(2);
    _exit(2);
}

void misuse_says(const void *pointer, const void *block, size_t bytes) {
    misuse_prints("pointer=0x%lx block=0x%lx bytes=%zu", (unsigned long)(uintptr_t)pointer,
                  (unsigned long)(uintptr_t)block, bytes);
}

void misuse_says_of(const void *pointer, void *block) {
    misuse_says(pointer, block, malloc_usable_size(block));
}

void *misuse_hidden(const void *pointer) {
    __asm__ volatile("" : "+r"(pointer) : : "memory");
    return (void *)(uintptr_t)pointer;
}

void *misuse_block(size_t size) {
    void *block = misuse_hidden(malloc(size));
    if (block == NULL) misuse_cannot("no memory");
    memset(block, 0x11, size);
    return block;
}

void *misuse_symbol(const char *name) {
    void *symbol = dlsym(RTLD_DEFAULT, name);
    if (symbol == NULL) misuse_cannot(name);
    return symbol;
}

struct call {
    void (*fn)(void *arg);
    void *arg;
};

static void *thread_body(void *arg) {
    struct call *call = arg;
    call->fn(call->arg);
    return NULL;
}

void misuse_in_thread(void (*fn)(void *arg), void *arg) {
    pthread_t thread;
    struct call call = {fn, arg};
    if (pthread_create(&thread, NULL, thread_body, &call) != 0) misuse_cannot("no thread");
    if (pthread_join(thread, NULL) != 0) misuse_cannot("no join");
}

int main(int argc, char **argv) {
    struct rlimit none = {0, 0};
    if (argc != 2) misuse_cannot("usage: misuse NAME | --list");
    if (setrlimit(RLIMIT_CORE, &none) != 0) misuse_cannot("setrlimit");
    for (size_t t = 0; t < TABLES; t++) {
        for (const struct misuse *misuse = tables[t]; misuse->name != NULL; misuse++) {
            if (strcmp(argv[1], "--list") == 0) {
                misuse_prints("%s", misuse->name);
            } else if (strcmp(argv[1], misuse->name) == 0) {
                misuse->run();
                misuse_prints("survived");
                return 0;
            }
        }
    }
    if (strcmp(argv[1], "--list") == 0) return 0;
    misuse_cannot("there is no misuse of that name");
}
