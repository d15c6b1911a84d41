/*
 * rlimit.c - a program that limits its own address space, or its data, while it runs: malloc goes
 * on to about the limit, says ENOMEM there, and leaves what is freed to thread stacks, libraries
 * and the stack.
 *
 * Each case is a child, as limits are for ever. What can be had is compared with what the limit
 * leaves to the process, as the kernel counts it. The argument is a shared object to be loaded.
 */
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "check.h"

enum { BLOCKS_MOST = 600000 };

static const char *module;
static void **blocks;
static size_t count;

/* Pages of the process: 0 all, 5 data and stack. */
static size_t mapped_bytes(int number) {
    char text[256];
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    CHECK(length > 0);
    text[length] = '\0';
    char *at = text;
    for (int i = 0; i < number; i++) at = strchr(at, ' ') + 1;
    return (size_t)strtoul(at, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE);
}

static size_t used_of(int resource) {
    return mapped_bytes(resource == RLIMIT_AS ? 0 : 5);
}

/* Returns the limit. */
static size_t limit_to(int resource, size_t bytes) {
    struct rlimit limit;
    bool of_all = resource ==
                  RLIMIT_AS; /* constants: some libcs have a type of their own for them */
    CHECK_EQ(of_all ? getrlimit(RLIMIT_AS, &limit) : getrlimit(RLIMIT_DATA, &limit), 0);
    limit.rlim_cur = bytes;
    CHECK_EQ(of_all ? setrlimit(RLIMIT_AS, &limit) : setrlimit(RLIMIT_DATA, &limit), 0);
    return bytes;
}

/* Blocks of `size` until there are no more. */
static size_t fill_up(size_t size) {
    size_t bytes = 0;
    for (count = 0; count < BLOCKS_MOST; count++, bytes += size) {
        errno = 0;
        char *block = malloc(size);
        if (block == NULL) {
            CHECK_EQ(errno, ENOMEM);
            break;
        }
        block[0] = block[size - 1] = 1;
        blocks[count] = block;
    }
    CHECK_THAT(count < BLOCKS_MOST, "no end after %zu MiB", bytes / CHECK_MIB);
    return bytes;
}

static void free_every(size_t step) {
    for (size_t i = 0; i < count; i += step) {
        free(blocks[i]);
        blocks[i] = NULL;
    }
}

static void free_all(void) {
    free_every(1);
    count = 0;
}

/* As much as the limit leaves can be had, but for 15 %. */
static void fill_to_limit(int resource, size_t limit, size_t size) {
    size_t used = used_of(resource), room = limit > used ? limit - used : 0, got = fill_up(size);
    CHECK_THAT(got >= room / 100 * 85, "blocks of %zu: %zu KiB of %zu", size, got / 1024,
               room / 1024);
    CHECK_THAT(used_of(resource) <= limit + 8 * CHECK_MIB, "beyond the limit"); /* and stack */
}

static void *thread_body(void *arg) {
    char *block = malloc(100000);
    CHECK(block != NULL);
    memset(block, 1, 100000);
    free(block);
    return arg;
}

static void start_thread(size_t stack_bytes) {
    pthread_attr_t attributes;
    pthread_t thread;
    void *result;
    CHECK_EQ(pthread_attr_init(&attributes), 0);
    CHECK_EQ(pthread_attr_setstacksize(&attributes, stack_bytes), 0);
    int error = pthread_create(&thread, &attributes, thread_body, NULL);
    CHECK_THAT(error == 0, "no thread starts: errno %d", error);
    CHECK_EQ(pthread_join(thread, &result), 0);
    pthread_attr_destroy(&attributes);
}

static void load_module(void) {
    void *handle = dlopen(module, RTLD_NOW);
    CHECK_THAT(handle != NULL, "%s", dlerror());
    CHECK_EQ(dlclose(handle), 0);
}

static __attribute__((noinline)) size_t recurse(size_t depth) {
    volatile char frame[4096];
    for (size_t i = 0; i < sizeof frame; i += 1024) frame[i] = (char)depth;
    return depth == 0 ? (size_t)frame[0] : recurse(depth - 1) + (size_t)frame[1024];
}

static void use_the_rest(void) {
    start_thread((size_t)8 << 20);
    load_module();
    (void)recurse(1000); /* 4 MiB of stack */
}

static void lower_once(int resource) {
    static const size_t sizes[] = {CHECK_MIB, 1000, 40000, 3000000};
    size_t limit = limit_to(resource, used_of(resource) + 400 * CHECK_MIB);
    for (size_t i = 0; i < CHECK_COUNT_OF(sizes); i++) {
        fill_to_limit(resource, limit, sizes[i]);
        free_all();
        use_the_rest();
    }
    CHECK(malloc((size_t)1 << 30) == NULL);
}

static void lower_as(void) {
    lower_once(RLIMIT_AS);
}

static void lower_data(void) {
    lower_once(RLIMIT_DATA);
}

/* A few blocks in the middle are freed: there a stack has room. */
static void free_a_few(void) {
    (void)limit_to(RLIMIT_AS, used_of(RLIMIT_AS) + 400 * CHECK_MIB);
    (void)fill_up(CHECK_MIB);
    for (size_t i = 100; i < 132; i++) {
        free(blocks[i]);
        blocks[i] = NULL;
    }
    use_the_rest();
}

/* The limit comes when all memory is there already. */
static void lower_late(void) {
    for (count = 0; count < 300; count++) {
        CHECK((blocks[count] = malloc(CHECK_MIB)) != NULL);
        memset(blocks[count], 1, CHECK_MIB);
    }
    (void)limit_to(RLIMIT_AS, used_of(RLIMIT_AS) + CHECK_MIB);
    free_every(2);
    for (int i = 0; i < 4; i++) start_thread((size_t)32 << 20);
    use_the_rest();
}

static void lower_twice_and_raise(void) {
    size_t before = used_of(RLIMIT_AS);
    fill_to_limit(RLIMIT_AS, limit_to(RLIMIT_AS, before + 500 * CHECK_MIB), CHECK_MIB);
    free_all();
    fill_to_limit(RLIMIT_AS, limit_to(RLIMIT_AS, before + 250 * CHECK_MIB), CHECK_MIB);
    free_all();
    use_the_rest();
    fill_to_limit(RLIMIT_AS, limit_to(RLIMIT_AS, before + 500 * CHECK_MIB), CHECK_MIB);
    free_all();
    use_the_rest();
}

/* A child of a process with a large heap, which frees what it inherited. */
static void fork_first(void) {
    for (count = 0; count < 200; count++) {
        CHECK((blocks[count] = malloc(CHECK_MIB)) != NULL);
        memset(blocks[count], 1, CHECK_MIB);
    }
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        size_t limit = limit_to(RLIMIT_AS, used_of(RLIMIT_AS) + 50 * CHECK_MIB);
        free_all();
        use_the_rest();
        fill_to_limit(RLIMIT_AS, limit, CHECK_MIB);
        free_all();
        use_the_rest();
        _exit(0);
    }
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    module = argv[1];
    blocks = mmap(NULL, BLOCKS_MOST * sizeof *blocks, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(blocks != MAP_FAILED);
    check_in_child("a limit on addresses", lower_as);
    check_in_child("a limit on data", lower_data);
    check_in_child("room for a stack where a few blocks were freed", free_a_few);
    check_in_child("a limit that comes late", lower_late);
    check_in_child("lowered twice, and raised", lower_twice_and_raise);
    check_in_child("set in a child", fork_first);
    return 0;
}
