/*
 * fuzz_store.c - the harness `store`: a sound file of a store is changed as the input says, opened,
 * and used.
 *
 * The input is a row of changes (one byte says which, then where and what), up to a change 0; the
 * rest of it are the sizes that the program then asks for. No call may crash or hang. If the file
 * is refused, there must be a reason in words, and only its lock may have been changed; if it is
 * opened and found sound, it must be sound, too, when it is opened again after its use.
 */
#include "check.h"
#include "lucid/lucid.h"
#include "store/store.h"

#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILE_MOST = 4 << 16, BLOCKS = 40 };

static struct input { const uint8_t *at, *end; } input;
static unsigned char sound[FILE_MOST], copy[FILE_MOST], after[FILE_MOST];
static size_t sound_bytes;
static int file;
static char path[64];
static const lu_store_config_t config = {.limit_bytes = (size_t)1 << 20};

static size_t take(unsigned count) {
    size_t value = 0;
    for (unsigned i = 0; i < count && input.at < input.end; i++) {
        value |= (size_t)*input.at++ << (8 * i);
    }
    return value;
}

static void write_file(const void *bytes, size_t size) {
    CHECK_EQ(ftruncate(file, 0), 0);
    CHECK_EQ(pwrite(file, bytes, size, 0), size);
}

static size_t read_file(void *bytes) {
    ssize_t size = pread(file, bytes, FILE_MOST, 0);
    CHECK(size >= 0);
    return (size_t)size;
}

/* A store with blocks of many sizes, a third of them free, and a root. */
static void make_sound(void) {
    lu_store_fault_t fault;
    void *blocks[BLOCKS];
    file = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(file >= 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    char name[] = "/tmp/lucid-fuzz-XXXXXX";
    int created = mkstemp(name);
    CHECK(created >= 0 && unlink(name) == 0);
    lu_store_t *store = lu_heap_open_file(name, NULL, &fault);
    CHECK_THAT(store != NULL, "%s", fault.text);
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = lu_store_malloc(store, 8 + i * i);
        CHECK(blocks[i] != NULL);
        memset(blocks[i], (int)i, 8 + i * i);
    }
    for (size_t i = 0; i < BLOCKS; i += 3) CHECK_EQ(lu_store_free(store, blocks[i]), 0);
    CHECK_EQ(lu_store_set_root(store, lu_store_handle(store, blocks[1])), 0);
    CHECK_EQ(lu_store_close(store), 0);
    close(created);
    created = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t size = read(created, sound, sizeof sound);
    CHECK(size > 0 && (size_t)size < sizeof sound);
    sound_bytes = (size_t)size;
    close(created);
    CHECK_EQ(unlink(name), 0);
}

/* Apply the changes; returns the size of the file. */
static size_t change(void) {
    size_t size = sound_bytes, at, word;
    memcpy(copy, sound, sound_bytes);
    memset(copy + sound_bytes, 0, sizeof copy - sound_bytes);
    for (size_t how; (how = take(1)) != 0;) {
        switch (how % 5) {
        case 0: /* a byte anywhere */
            at = take(3) % sound_bytes;
            copy[at] ^= (unsigned char)take(1);
            break;
        case 1: /* a word of the header's first page */
            at = take(2) % 512 * 8;
            word = take(8);
            memcpy(copy + at, &word, 8);
            break;
        case 2: /* a word among the blocks */
            at = LU_STORE_HEADER + take(2) % 8000 * 8;
            word = take(how < 100 ? 2 : 8);
            memcpy(copy + at % (sound_bytes - 8), &word, 8);
            break;
        case 3: /* a word is that of another place */
            at = take(2) * 8 % (sound_bytes - 8);
            memmove(copy + at, copy + take(2) * 8 % (sound_bytes - 8), 8);
            break;
        default: /* the length */
            size = how < 128 ? take(3) % sizeof copy : take(1) % 4 << 16;
        }
    }
    return size;
}

static bool remember(void *block, size_t usable_bytes, void *arg) {
    (void)usable_bytes;
    *(void **)arg = block;
    return true;
}

/* A visitor that does as the input says: frees what it sees, or what it saw last, or allocates. */
static bool change_it(void *block, size_t usable_bytes, void *arg) {
    lu_store_t *store = arg;
    static void *last;
    switch (take(1) % 4) {
    case 0:
        (void)lu_store_free(store, block);
        break;
    case 1:
        (void)lu_store_free(store, last);
        break;
    case 2:
        block = lu_store_malloc(store, take(1) * 16);
        break;
    default:
        (void)lu_store_realloc(store, block, usable_bytes / 2);
    }
    last = block;
    return input.at < input.end;
}

static void use(lu_store_t *store) {
    void *last = NULL, *block = NULL;
    (void)lu_store_walk(store, remember, &last);
    while (input.at < input.end) {
        size_t how = take(1), bytes = take(2) % 20000;
        switch (how % 9) {
        case 0:
            block = lu_store_malloc(store, bytes);
            if (block != NULL) memset(block, 1, bytes);
            break;
        case 1:
            block = lu_store_realloc(store, block, bytes);
            break;
        case 2:
            (void)lu_store_free(store, last);
            last = block;
            block = NULL;
            break;
        case 3:
            (void)lu_store_alloc_to(store, NULL, bytes);
            break;
        case 4:
            (void)lu_store_free_from(store, NULL);
            break;
        case 5:
            (void)lu_store_alloc_to(store, lu_store_pointer(store, bytes * 8), bytes);
            break;
        case 6:
            (void)lu_store_free_from(store, lu_store_pointer(store, bytes * 8));
            break;
        case 7:
            (void)lu_store_walk(store, change_it, store);
            break;
        default:
            (void)lu_store_pointer(store, lu_store_root(store) + bytes);
            (void)lu_store_usable_size(store, lu_store_pointer(store, LU_STORE_FIRST + bytes));
        }
    }
    (void)lu_store_purge(store);
}

static void check_refusal(const lu_store_fault_t *fault, size_t size) {
    CHECK(fault->reason != LU_STORE_FINE);
    CHECK(fault->error != 0);
    CHECK(fault->text[0] != '\0' && strnlen(fault->text, sizeof fault->text) < sizeof fault->text);
    CHECK_EQ(read_file(after), size);
    for (size_t i = 0; i < size; i++) {
        if (i == offsetof(struct store_header, lock_kind)) { /* who is alone makes them anew */
            i = offsetof(struct store_header, bitmap) - 1;
            continue;
        }
        CHECK_THAT(after[i] == copy[i], "refused (%s), and changed at byte %zu", fault->text, i);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    lu_store_fault_t fault;
    if (sound_bytes == 0) make_sound();
    input = (struct input){data, data + size};
    size_t bytes = change();
    write_file(copy, bytes);
    errno = 0;
    lu_store_t *store = lu_heap_open_file(path, &config, &fault);
    if (store == NULL) {
        CHECK(errno != 0);
        check_refusal(&fault, bytes);
        return 0;
    }
    bool is_sound = lu_store_check(store, NULL) == 0;
    use(store);
    CHECK_EQ(lu_store_close(store), 0);
    if (!is_sound) return 0;
    lu_store_config_t verify = config;
    verify.flags = LU_STORE_VERIFY;
    store = lu_heap_open_file(path, &verify, &fault);
    CHECK_THAT(store != NULL, "sound before it was used, and now: %s", fault.text);
    CHECK_EQ(lu_store_close(store), 0);
    return 0;
}
