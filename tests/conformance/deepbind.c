/*
 * deepbind.c - modules that are opened with RTLD_DEEPBIND share the program's malloc, and dlopen is
 * otherwise the C library's.
 *
 *   deepbind OPENER MAKER TAKER [--strict]
 *
 * The opener is another module (deepbind_opener.c); the other two, equal ones, lie in its directory
 * `hidden`, where only its RUNPATH leads. What is expected follows from the malloc under test: the
 * C library heeds the flag, and everybody uses its malloc; lucid takes the flag out, unless its
 * option `deepbind` says not to: then such a module has another malloc, and keeps its blocks.
 */
#include <pthread.h>

#include "check.h"

#define DEEP (RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND)

typedef void *malloc_fn(size_t size);
typedef void *opener_fn(const char *name, int mode);

struct module {
    void *handle;
    void *(*make)(size_t size);
    void (*end)(void *block);
    malloc_fn *(*malloc)(void);
    const char *(*asks)(void);
};

static int (*option_get)(const char *key, char *text, size_t text_bytes); /* NULL: not lucid */
static int (*option_set)(const char *key, const char *value);
static opener_fn *opener;

/* The modules have a function of this name as well. */
const char *deepbind_who(void);
const char *deepbind_who(void) {
    return "program";
}

static struct module module_of(void *handle) {
    CHECK_THAT(handle != NULL, "dlopen: %s", dlerror());
    struct module module = {.handle = handle};
    module.make = (void *(*)(size_t))check_symbol(handle, "module_make");
    module.end = (void (*)(void *))check_symbol(handle, "module_end");
    module.malloc = (malloc_fn * (*)(void)) check_symbol(handle, "module_malloc");
    module.asks = (const char *(*)(void))check_symbol(handle, "module_asks");
    return module;
}

/* Whether a module that is opened now is bound as RTLD_DEEPBIND says. */
static bool is_deep(void) {
    char text[8];
    if (option_get == NULL) return true;
    CHECK_EQ(option_get("deepbind", text, sizeof text), 0);
    return strcmp(text, "0") != 0;
}

static void check_bound(const struct module *module, bool deep) {
    CHECK_THAT(strcmp(module->asks(), deep ? "module" : "program") == 0,
               "the module got the %s's function", module->asks());
    bool shared = module->malloc() == (malloc_fn *)check_symbol(RTLD_DEFAULT, "malloc");
    CHECK_THAT(shared == (option_get == NULL || !deep), "the module's malloc is %s",
               shared ? "the program's" : "not the program's");
}

/* ------------------------------------------------------------------ dlopen ------------------- */

static void check_message(const char *part) {
    const char *message = dlerror();
    CHECK_THAT(message != NULL && strstr(message, part) != NULL, "dlerror says %s, not %s",
               message != NULL ? message : "nothing", part);
    CHECK(dlerror() == NULL);
}

static void errors(const char *path) {
    CHECK(dlopen("/none/such.so", DEEP) == NULL); /* the first call of all */
    check_message("/none/such.so: cannot open shared object file");
    CHECK(dlopen(path, RTLD_DEEPBIND) == NULL);
    check_message("invalid mode");
    CHECK(dlopen(path, 0) == NULL);
    check_message("invalid mode");
    CHECK(dlopen("/none/such.so", DEEP) == NULL);
    void *handle = dlopen(NULL, DEEP);
    CHECK_THAT(dlerror() == NULL, "an error is left behind a call that succeeded");
    CHECK(handle != NULL && check_symbol(handle, "deepbind_who") == (void *)deepbind_who);
    CHECK_EQ(dlclose(handle), 0);
    check_passed("errors, their messages, and the program itself");
}

/* Whose RUNPATH and $ORIGIN count is known by who calls. */
static void callers(const char *maker) {
    CHECK(dlopen("maker.so", DEEP) == NULL);
    CHECK(dlopen("$ORIGIN/hidden/maker.so", DEEP) == NULL);
    CHECK(dlerror() != NULL);
    const char *const from_opener[] = {"maker.so", "$ORIGIN/hidden/maker.so", maker};
    const int modes[] = {DEEP, RTLD_NOW};
    for (size_t i = 0; i < CHECK_COUNT_OF(from_opener); i++) {
        for (size_t j = 0; j < CHECK_COUNT_OF(modes); j++) {
            void *handle = opener(from_opener[i], modes[j]);
            CHECK_THAT(handle != NULL, "%s: %s", from_opener[i], dlerror());
            CHECK_EQ(dlclose(handle), 0);
        }
    }
    void *handle = dlopen("$ORIGIN/deepbind/opener.so", DEEP);
    CHECK_THAT(handle != NULL, "%s", dlerror());
    CHECK_EQ(dlclose(handle), 0);
    check_passed("RUNPATH and $ORIGIN are those of the caller");
}

static void other_flags(const char *maker) {
    CHECK(dlopen(maker, DEEP | RTLD_NOLOAD) == NULL);
    CHECK(dlsym(RTLD_DEFAULT, "module_make") == NULL);
    void *handle = dlopen(maker, RTLD_NOW | RTLD_GLOBAL | RTLD_DEEPBIND);
    CHECK_THAT(handle != NULL, "%s", dlerror());
    CHECK(dlsym(RTLD_DEFAULT, "module_make") != NULL);
    CHECK(dlopen(maker, DEEP | RTLD_NOLOAD) == handle);
    CHECK_EQ(dlclose(handle), 0);
    CHECK_EQ(dlclose(handle), 0);
    check_passed("other flags stay");
}

/* ------------------------------------------------------------------ blocks ------------------- */

/* Blocks of one module end in the other and in the program, or where each has its own malloc, in
 * the module that made them. */
static void exchange(const char *maker_path, const char *taker_path, bool deep) {
    struct module maker = module_of(dlopen(maker_path, DEEP));
    struct module taker = module_of(opener(taker_path, DEEP));
    check_bound(&maker, deep);
    check_bound(&taker, deep);
    bool shared = maker.malloc() == (malloc_fn *)check_symbol(RTLD_DEFAULT, "malloc");
    void *blocks[60];
    uint64_t state = 11;
    for (size_t i = 0; i < CHECK_COUNT_OF(blocks); i++) {
        size_t size = check_random_size(&state, i % 10 == 0 ? 20 : 12);
        blocks[i] = i % 3 == 2 && shared ? malloc(size) : maker.make(size);
        CHECK(blocks[i] != NULL);
        check_fill(blocks[i], size, i);
        if (!shared) continue;
        blocks[i] = realloc(blocks[i], size + 50);
        CHECK(blocks[i] != NULL);
        CHECK_FILLED(blocks[i], size, i);
    }
    for (size_t i = 0; i < CHECK_COUNT_OF(blocks); i++) {
        if (!shared)
            maker.end(blocks[i]);
        else if (i % 2 == 0)
            taker.end(blocks[i]);
        else
            free(blocks[i]);
    }
    CHECK_EQ(dlclose(taker.handle), 0);
    CHECK_EQ(dlclose(maker.handle), 0);
}

static void *thread_body(void *arg) {
    char **paths = arg;
    for (size_t i = 0; i < check_amount(50); i++) exchange(paths[2], paths[3], is_deep());
    return NULL;
}

static void by_threads(char **paths) {
    pthread_t threads[4];
    for (size_t i = 0; i < CHECK_COUNT_OF(threads); i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, thread_body, paths), 0);
    for (size_t i = 0; i < CHECK_COUNT_OF(threads); i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

/* The option is looked at by every call. */
static void changed_option(char **paths) {
    const char *before = is_deep() ? "1" : "0";
    CHECK_EQ(option_set("deepbind", "2"), EINVAL);
    for (int round = 0; round < 4; round++) {
        CHECK_EQ(option_set("deepbind", round % 2 == 0 ? "1" : "0"), 0);
        exchange(paths[2], paths[3], round % 2 == 0);
    }
    CHECK_EQ(option_set("deepbind", before), 0);
    check_passed("the option, changed by the program");
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    CHECK_THAT(argc >= 4, "usage: %s OPENER MAKER TAKER [--strict]", argv[0]);
    option_get = (int (*)(const char *, char *, size_t))dlsym(RTLD_DEFAULT, "lu_option_get");
    option_set = (int (*)(const char *, const char *))dlsym(RTLD_DEFAULT, "lu_option_set");
    errors(argv[2]);
    void *handle = dlopen(argv[1], RTLD_NOW);
    CHECK_THAT(handle != NULL, "%s", dlerror());
    opener = (opener_fn *)check_symbol(handle, "opener_open");
    if (getenv("OPEN_EARLY") != NULL) {
        struct module early = module_of(((void *(*)(void))check_symbol(handle, "opener_early"))());
        check_bound(&early, is_deep());
        check_passed("a module opened before main");
        return 0;
    }
    callers(argv[2]);
    exchange(argv[2], argv[3], is_deep());
    by_threads(argv);
    check_passed("blocks made by modules, by the program, and ended by others");
    if (option_set != NULL) changed_option(argv);
    other_flags(argv[2]); /* dlsym may have bound it to the program for good */
    return 0;
}
