/*
 * small_stack.c - every function of malloc works on a thread stack of 32 KiB.
 *
 * The stack is painted beforehand, with a page below it that cannot be touched, so that the program
 * can say how deep each function went. The first allocation of a thread, which builds its heap, is
 * made there too. The reporting functions print through the C library, whose own share (up to 10
 * KiB for an unbuffered stream) is included.
 */
#include <pthread.h>
#include <sys/mman.h>

#include "check.h"
#include "family.h"

/* As small as a thread's stack may be. */
#ifdef __aarch64__
enum { STACK = 128 * 1024, PAINT = 0x77 };
#else
enum { STACK = 32 * 1024, PAINT = 0x77 };
#endif
enum { GUARD = 65536 }; /* whole pages of any size */

static FILE *sink; /* open before the small stacks, so that stdio's own start is not measured */

static void do_nothing(void) {
}
static void do_first_malloc(void) {
    free(check_hidden(malloc(10)));
}
static void do_every_function(void) {
    for (size_t size = 0; size <= 64 * CHECK_MIB; size = size * 5 + 1) {
        for (size_t f = 0; f < FAMILY_COUNT; f++) {
            void *block = check_hidden(family_table[f].alloc(size));
            CHECK(block != NULL);
            CHECK(malloc_usable_size(block) >= size);
            block = realloc(block, size + size / 2 + 1);
            CHECK(block != NULL);
            block = realloc(block, size / 2 + 1);
            CHECK(block != NULL);
            free(block);
        }
    }
}
static void do_many_blocks(void) {
    void **list = NULL;
    for (size_t i = 0; i < 20000; i++) {
        void **block = malloc(16 + i % 2000);
        CHECK(block != NULL);
        *block = list;
        list = block;
    }
    while (list != NULL) {
        void **next = *list;
        free(list);
        list = next;
    }
}
static void do_failures(void) {
    for (size_t f = 0; f < FAMILY_COUNT; f++) {
        CHECK(check_hidden(family_table[f].alloc(check_size(PTRDIFF_MAX))) == NULL);
    }
}
static void do_trim(void) {
    malloc_trim(0);
}
static void do_figures(void) {
    CHECK(mallinfo2().arena + 1 > 0);
    CHECK_EQ(mallopt(M_TRIM_THRESHOLD, 1 << 20), check_quirk("mallopt") ? 0 : 1);
}
static void do_info(void) {
    CHECK_EQ(malloc_info(0, sink), 0);
}
static void do_stats(void) {
    malloc_stats();
}

static const struct work {
    const char *name;
    void (*run)(void);
} works[] = {
    {"nothing (the thread itself)", do_nothing},
    {"the first malloc of a thread", do_first_malloc},
    {"all functions, 0 to 64 MiB", do_every_function},
    {"20,000 blocks", do_many_blocks},
    {"allocations that fail", do_failures},
    {"malloc_trim", do_trim},
    {"mallinfo2 and mallopt", do_figures},
    {"malloc_info", do_info},
    {"malloc_stats", do_stats},
};

static void *body(void *arg) {
    const struct work *work = arg;
    work->run();
    return NULL;
}

static size_t depth_of(const struct work *work, unsigned char *stack) {
    memset(stack, PAINT, STACK);
    pthread_attr_t attr;
    pthread_t thread;
    CHECK_EQ(pthread_attr_init(&attr), 0);
    CHECK_EQ(pthread_attr_setstack(&attr, stack, STACK), 0);
    CHECK_EQ(pthread_create(&thread, &attr, body, (void *)(uintptr_t)work), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(pthread_attr_destroy(&attr), 0);
    size_t untouched = 0;
    while (untouched < STACK && stack[untouched] == PAINT) untouched++;
    return STACK - untouched;
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    unsigned char *map = mmap(NULL, STACK + GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(map != MAP_FAILED);
    unsigned char *stack = map + GUARD;
    CHECK_EQ(mprotect(stack, STACK, PROT_READ | PROT_WRITE), 0);
    sink = fopen("/dev/null", "w");
    CHECK(sink != NULL);
    fprintf(sink, "%d", 1);
    int saved = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    CHECK(saved >= 0 && null >= 0);
    for (size_t i = 0; i < CHECK_COUNT_OF(works); i++) {
        if (works[i].run == do_stats) CHECK(dup2(null, STDERR_FILENO) >= 0);
        size_t depth = depth_of(&works[i], stack);
        CHECK(dup2(saved, STDERR_FILENO) >= 0);
        check_passed("%s: %zu of %d bytes of stack", works[i].name, depth, (int)STACK);
    }
    return 0;
}
