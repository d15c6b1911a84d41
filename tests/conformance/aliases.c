/*
 * aliases.c - every name of malloc leads to the same allocator.
 *
 * A replacement that leaves one name out mixes two heaps: pvalloc of the C library gives a block
 * that the replacement's free does not know. So each name that the C library exports is looked up
 * and must come from the object that malloc comes from; blocks cross between all of them; and the
 * __libc_ names, which old programs link to directly, are used both by dlsym and as linked.
 */
#include "check.h"
#include "family.h"

/* Linked to, as programs with malloc hooks of their own do. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void *__libc_valloc(size_t size);
extern void *__libc_pvalloc(size_t size);
extern void __libc_free(void *block);

static const char *object_of(const void *address) {
    Dl_info info;
    CHECK_THAT(dladdr(address, &info) != 0, "dladdr knows nothing of %p", address);
    return info.dli_fname;
}

/* Old names are in the C library for old programs only: found by their version. */
static void *symbol_of(const char *name) {
    void *symbol = dlsym(RTLD_DEFAULT, name);
    return symbol != NULL ? symbol : dlvsym(RTLD_DEFAULT, name, "GLIBC_2.2.5");
}

/* The names of the C library that this malloc must replace, all or none. */
static const char *const names[] = {
    "malloc",         "calloc",        "realloc",         "reallocarray",
    "free",           "aligned_alloc", "posix_memalign",  "memalign",
    "valloc",         "pvalloc",       "cfree",           "malloc_usable_size",
    "malloc_trim",    "mallopt",       "mallinfo",        "mallinfo2",
    "malloc_stats",   "malloc_info",   "__libc_malloc",   "__libc_calloc",
    "__libc_realloc", "__libc_free",   "__libc_memalign", "__libc_valloc",
    "__libc_pvalloc",
};
/* Not in every C library, but lucid's. */
static const char *const more_names[] = {
    "free_sized", "free_aligned_sized", "__posix_memalign", "__libc_mallopt", "__libc_mallinfo",
};

static void one_object(void) {
    const char *home = object_of(dlsym(RTLD_DEFAULT, "malloc"));
    size_t count = 0;
    for (size_t i = 0; i < CHECK_COUNT_OF(names); i++, count++) {
        void *symbol = symbol_of(names[i]);
        CHECK_THAT(symbol != NULL, "there is no %s", names[i]);
        CHECK_THAT(strcmp(object_of(symbol), home) == 0, "malloc is from %s, %s from %s", home,
                   names[i], object_of(symbol));
    }
    for (size_t i = 0; i < CHECK_COUNT_OF(more_names); i++) {
        void *symbol = symbol_of(more_names[i]);
        CHECK_THAT(symbol != NULL || !check_strict, "there is no %s", more_names[i]);
        if (symbol == NULL) continue;
        CHECK_THAT(strcmp(object_of(symbol), home) == 0, "malloc is from %s, %s from %s", home,
                   more_names[i], object_of(symbol));
        count++;
    }
    check_passed("%zu names, all from %s", count, home);
}

/* Blocks of any function of the family go to any function that takes one. */
static void crossing(void) {
    void (*cfree_like)(void *) = (void (*)(void *))symbol_of("cfree");
    void (*const frees[])(void *) = {free, cfree_like, __libc_free};
    for (size_t size = 1; size <= 8 * CHECK_MIB; size = size * 2 + 3) {
        for (size_t f = 0; f < FAMILY_COUNT + 6; f++) {
            for (size_t k = 0; k < CHECK_COUNT_OF(frees); k++) {
                void *block = f < FAMILY_COUNT        ? family_table[f].alloc(size)
                              : f == FAMILY_COUNT     ? __libc_malloc(size)
                              : f == FAMILY_COUNT + 1 ? __libc_calloc(1, size)
                              : f == FAMILY_COUNT + 2 ? __libc_realloc(NULL, size)
                              : f == FAMILY_COUNT + 3 ? __libc_memalign(128, size)
                              : f == FAMILY_COUNT + 4 ? __libc_valloc(size)
                                                      : __libc_pvalloc(size);
                CHECK(block != NULL);
                if (f == FAMILY_COUNT + 1) CHECK_ZERO(block, size);
                if (f == FAMILY_COUNT + 3) CHECK_ALIGNED(block, 128);
                if (f >= FAMILY_COUNT + 4) CHECK_ALIGNED(block, 4096);
                CHECK(malloc_usable_size(block) >= size);
                check_fill(block, size, size);
                block = k == 0 ? realloc(block, size + size / 2 + 1)
                               : __libc_realloc(block, size + size / 2 + 1);
                CHECK(block != NULL);
                CHECK_FILLED(block, size / 8 * 8, size);
                frees[k](check_hidden(block));
            }
        }
    }
    for (size_t k = 0; k < CHECK_COUNT_OF(frees); k++) frees[k](NULL);
    check_passed("blocks cross between the plain names, the __libc_ names and cfree");
}

/* Functions of the C library that allocate for the caller, who frees. */
static void from_the_library(void) {
    for (int i = 0; i < 1000; i++) {
        char *copy = strdup("a line that is long enough not to be special"), *text = NULL;
        CHECK(copy != NULL);
        CHECK(asprintf(&text, "%s %d", copy, i) > 0);
        size_t room = 0, length = 0;
        char *line = NULL, *memory = NULL;
        FILE *file = fmemopen(text, strlen(text), "r");
        CHECK(file != NULL);
        CHECK(getline(&line, &room, file) > 0);
        CHECK(strcmp(line, text) == 0);
        fclose(file);
        file = open_memstream(&memory, &length);
        CHECK(file != NULL);
        for (int k = 0; k < 50; k++) fprintf(file, "%d %s\n", k, text);
        CHECK_EQ(fclose(file), 0);
        CHECK_EQ(strlen(memory), length);
        char *path = realpath("/proc/self/..", NULL);
        CHECK(path != NULL);
        free(copy);
        free(text);
        free(line);
        free(memory);
        free(path);
    }
    check_passed("strdup, asprintf, getline, open_memstream, realpath: the caller frees");
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    one_object();
    crossing();
    from_the_library();
    return 0;
}
