/*
 * misuse_handler.c - what becomes of a violation: the program's handler may let it go on, decline,
 * or misuse the allocator itself; and LUCID_OPTIONS=abort:0 reports and goes on.
 *
 * A program that goes on must find a sound heap: blocks given out after a violation are distinct
 * from each other and from those it holds.
 */
#include "misuse.h"

#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lucid/lucid.h"

typedef void set_handler_fn(lu_violation_fn *handler, void *arg);

static int calls;
static lu_violation_kind_t last_kind;
static char last_line[256];
static const void *last_pointer;

static void set_handler(lu_violation_fn *handler, void *arg) {
    ((set_handler_fn *)misuse_symbol("lu_set_violation_handler"))(handler, arg);
}

static void must(bool fact, const char *what) {
    if (!fact) misuse_cannot(what);
}

/* Blocks of many sizes, all at once, each with its own contents: overlap shows. */
static void heap_is_sound(void) {
    enum { COUNT = 4000 };
    static unsigned char *blocks[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        blocks[i] = malloc(8 + i % 500);
        must(blocks[i] != NULL, "no memory after a violation");
        memset(blocks[i], (int)(i % 251), 8 + i % 500);
    }
    for (size_t i = 0; i < COUNT; i++) {
        for (size_t k = 0; k < 8 + i % 500; k++) {
            must(blocks[i][k] == i % 251, "blocks overlap after a violation");
        }
    }
    for (size_t i = 0; i < COUNT; i++) free(blocks[i]);
}

/* ------------------------------------------------------------------ handlers ----------------- */

static bool goes_on(const lu_violation_t *violation, void *arg) {
    calls++;
    last_kind = violation->kind;
    last_pointer = violation->pointer;
    strncpy(last_line, violation->message, sizeof last_line - 1);
    must(arg == &calls, "the handler got another argument");
    must(violation->call != NULL, "a violation without the name of the call");
    return true;
}

static bool declines(const lu_violation_t *violation, void *arg) {
    (void)violation, (void)arg;
    misuse_prints("declined");
    return false;
}

static bool misuses(const lu_violation_t *violation, void *arg) {
    (void)violation;
    free(arg);
    return true;
}

/* Do every kind of misuse, let it go on each time, and look at what the handler was told. */
static void handler_goes_on(void) {
    static long words[8];
    set_handler(goes_on, &calls);
    void *guard = misuse_block(100);
    char *block = misuse_block(100);
    errno = 4711;
    free(misuse_hidden(words));
    must(errno == 4711, "free of a foreign pointer changed errno");
    must(calls == 1 && last_kind == LU_FOREIGN_POINTER && last_pointer == words, "foreign");
    must(strstr(last_line, "pointer not from lucid") != NULL, "the message of foreign");
    must(strchr(last_line, '\n') == NULL, "the message has a newline");
    free(misuse_hidden(block + 16));
    must(calls == 2 && last_kind == LU_INTERIOR_POINTER && last_pointer == block + 16, "interior");
    must(realloc(misuse_hidden(block + 16), 1000) == NULL, "realloc of an interior pointer");
    must(calls == 3, "realloc called no handler");
    must(malloc_usable_size(misuse_hidden(block + 16)) == 0, "usable size inside a block");
    must(calls == 4, "malloc_usable_size called no handler");
    ((void (*)(void *, size_t))misuse_symbol("free_sized"))(block, 5000);
    must(calls == 5 && last_kind == LU_SIZE_MISMATCH, "size");
    free(misuse_hidden(block)); /* it was freed, with the right size */
    must(calls == 6 && last_kind == LU_DOUBLE_FREE && last_pointer == block, "double");
    heap_is_sound();
    must(calls == 6, "violations that nobody committed");
    free(guard);
    misuse_prints("six violations survived");
}

/* A damaged list is given up; the allocator goes on with other memory. */
static void handler_corrupt_goes_on(void) {
    enum { COUNT = 60 };
    void *blocks[COUNT];
    set_handler(goes_on, &calls);
    for (size_t i = 0; i < COUNT; i++) blocks[i] = misuse_block(64);
    for (size_t i = 0; i < COUNT; i += 2) free(blocks[i]);
    memset(misuse_hidden(blocks[30]), 0x41, 8);
    for (size_t i = 0; i < 500; i++) misuse_block(64);
    must(calls == 1 && last_kind == LU_CORRUPT_LINK, "the damage was not found");
    heap_is_sound();
    malloc_trim(0);
    heap_is_sound();
    misuse_prints("damage survived");
}

static void handler_declines(void) {
    static long words[8];
    set_handler(declines, NULL);
    misuse_says(words, NULL, 0);
    free(misuse_hidden(words));
}

static void handler_removed(void) {
    static long words[8];
    set_handler(goes_on, &calls);
    free(misuse_hidden(words));
    must(calls == 1, "the handler was not called");
    set_handler(NULL, NULL);
    misuse_says(words, NULL, 0);
    free(misuse_hidden(words));
}

/* A violation inside the handler does not call the handler again. */
static void handler_misuses(void) {
    static long outer[8], inner[8];
    set_handler(misuses, inner);
    misuse_says(inner, NULL, 0);
    free(misuse_hidden(outer));
}

/* ------------------------------------------------------------------ abort:0 ------------------ */

static void survive(void) {
    static long words[8];
    void *guard = misuse_block(100);
    char *block = misuse_block(100);
    misuse_says(words, NULL, 0);
    free(misuse_hidden(words));
    misuse_says_of(block + 16, block);
    free(misuse_hidden(block + 16));
    misuse_says_of(block, block);
    free(block);
    free(misuse_hidden(block));
    heap_is_sound();
    free(guard);
}

const struct misuse misuse_handler_table[] = {
    {"handler-goes-on", handler_goes_on},
    {"handler-corrupt-goes-on", handler_corrupt_goes_on},
    {"handler-declines", handler_declines},
    {"handler-removed", handler_removed},
    {"handler-misuses", handler_misuses},
    {"survive", survive},
    {NULL, NULL},
};
