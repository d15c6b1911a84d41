/*
 * probe_addresses.c - where the parts of this process are, and how long each kind of storage lives.
 *
 * Addresses are texts ("0x…"): a number would lose the last digits.
 */
#include <alloca.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lucid/lucid.h"
#include "probe/probe_list.h"

enum { MIB = 1 << 20 };

static int initialised = 1;
static int zeroed;

static void tell_at(const char *name, const void *address) {
    char key[64];
    snprintf(key, sizeof key, "%s_at", name);
    probe_text(key, "%p", address);
}

static void tell_part(const char *name, uintptr_t start, uintptr_t end) {
    char key[64];
    snprintf(key, sizeof key, "%s_start", name);
    probe_text(key, "0x%lx", (unsigned long)start);
    snprintf(key, sizeof key, "%s_end", name);
    probe_text(key, "0x%lx", (unsigned long)end);
}

/* ------------------------------------------------------------------ the parts ---------------- */

/* The program's segments, from the linker's own marks. */
extern const char __executable_start[], __data_start[], edata[], end[];

struct parts {
    uintptr_t low_start, low_end;   /* mappings below the program: who asked for such addresses */
    uintptr_t text_end;             /* of the program's mappings that are not writable */
    uintptr_t heap_start, heap_end; /* "[heap]"                                       */
    uintptr_t mappings_start, mappings_end;
    uintptr_t stack_start, stack_end;
};

static void sort_map(void *arg, const struct probe_map *map, const char *permissions) {
    struct parts *parts = arg;
    uintptr_t program_end = (uintptr_t)end;
    if (strcmp(map->name, "[heap]") == 0) {
        if (parts->heap_start == 0) parts->heap_start = map->start;
        parts->heap_end = map->end;
    } else if (strcmp(map->name, "[stack]") == 0) {
        parts->stack_start = map->start;
        parts->stack_end = map->end;
    } else if (map->end <= (uintptr_t)__executable_start) {
        if (parts->low_start == 0) parts->low_start = map->start;
        parts->low_end = map->end;
    } else if (map->start < program_end) {
        if (permissions[1] != 'w' && map->end <= (uintptr_t)__data_start)
            parts->text_end = map->end;
    } else if (map->name[0] == '[' && strncmp(map->name, "[anon", 5) != 0 &&
               strncmp(map->name, "[vdso", 5) != 0 && strncmp(map->name, "[vvar", 5) != 0) {
        return; /* the kernel's */
    } else if (map->end < parts->stack_start || parts->stack_start == 0) {
        if (parts->mappings_start == 0) parts->mappings_start = map->start;
        parts->mappings_end = map->end;
    }
}

static void tell_parts(void) {
    struct parts parts = {0};
    probe_each_map(sort_map, &parts);
    tell_part("low", parts.low_start, parts.low_end);
    tell_part("text", (uintptr_t)__executable_start, parts.text_end);
    tell_part("data", (uintptr_t)__data_start, (uintptr_t)edata);
    tell_part("bss", (uintptr_t)edata, (uintptr_t)end);
    tell_part("heap", parts.heap_start, parts.heap_end);
    tell_part("mappings", parts.mappings_start, parts.mappings_end);
    tell_part("stack", parts.stack_start, parts.stack_end);
}

/* ------------------------------------------------------------------ how long they live ------- */

static __attribute__((noinline)) int count_static(void) {
    static int calls;
    return ++calls;
}

static __attribute__((noinline)) int count_local(void) {
    int calls = 0;
    return *probe_hidden(&calls) + 1;
}

/* A block of the heap, on the contrary, is there after the function that made it. */
static __attribute__((noinline)) char *make_block(void) {
    char *block = probe_hidden((char *)malloc(16));
    if (block == NULL) probe_die("no memory");
    strcpy(block, "still here");
    return block;
}

static __attribute__((noinline)) uintptr_t on_stack(size_t bytes) {
    char *block = probe_hidden((char *)alloca(bytes));
    probe_touch(block, bytes);
    return (uintptr_t)block;
}

/* 1 MiB, or less if the stack may not have so much. */
static void tell_alloca(void) {
    struct rlimit most;
    size_t bytes = MIB;
    if (getrlimit(RLIMIT_STACK, &most) == 0 && most.rlim_cur / 4 < bytes) {
        bytes = most.rlim_cur / 4;
    }
    size_t before = probe_anonymous();
    uintptr_t first = on_stack(bytes), same = 1;
    for (int i = 1; i < 1000; i++) same &= on_stack(bytes) == first;
    probe_number("alloca_bytes", (double)bytes);
    probe_number("alloca_same", (double)same);
    probe_number("alloca_resident", (double)probe_anonymous() - (double)before);
}

/* lucid's scopes, if it is there. */
typedef void *scope_alloc(lu_scope_t *scope, size_t size);
typedef void scope_end(lu_scope_t *scope);

static void tell_scopes(void) {
    scope_alloc *alloc = (scope_alloc *)dlsym(RTLD_DEFAULT, "lu_scope_alloc");
    scope_end *finish = (scope_end *)dlsym(RTLD_DEFAULT, "lu_scope_end");
    if (alloc == NULL || finish == NULL) return;
    size_t before = probe_anonymous(), kept = 0;
    for (int i = 0; i < 1000; i++) {
        lu_scope_t scope = LU_SCOPE_INIT;
        char *block = alloc(&scope, MIB);
        if (block == NULL) probe_die("no memory for a scope");
        probe_touch(block, MIB);
        finish(&scope);
        kept += scope.chunks != NULL;
    }
    probe_number("scope_kept", (double)kept);
    probe_number("scope_resident", (double)probe_anonymous() - (double)before);
}

int probe_addresses(int argc, char **argv) {
    int local = 0;
    (void)argc;
    char *small = probe_hidden((char *)malloc(100)), *large = probe_hidden((char *)malloc(MIB));
    if (small == NULL || large == NULL) probe_die("no memory");
    tell_parts();
    tell_at("function", (const void *)(uintptr_t)probe_addresses);
    tell_at("constant", "a string");
    tell_at("initialised", probe_hidden(&initialised));
    tell_at("zeroed", probe_hidden(&zeroed));
    tell_at("small_block", small);
    tell_at("large_block", large);
    tell_at("library_function", dlsym(RTLD_DEFAULT, "strlen"));
    tell_at("local", probe_hidden(&local));
    tell_at("argument", argv[0]);
    tell_at("environment", environ[0] != NULL ? environ[0] : argv[0]);
    probe_number("static_kept", count_static() + count_static() == 3);
    probe_number("local_lost", count_local() + count_local() == 2);
    char *made = make_block();
    probe_number("block_kept", strcmp(made, "still here") == 0);
    free(made);
    tell_alloca();
    tell_scopes();
    free(small);
    free(large);
    return 0;
}
