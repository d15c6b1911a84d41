/*
 * open.c - creating, opening and refusing stores.
 *
 * A file must never be seen half made, so a new one is written without a name, opened, and then
 * linked to its path at once. Opening one, in this order, each step a reason to refuse:
 *
 *     the kind of file -> the constant part of the header, read into a buffer -> address space ->
 *     the file mapped -> are we alone? -> the lock, recovery -> sizes, end mark, root -> all of it
 *     (LU_STORE_VERIFY)
 *
 * For the question whether we are alone, two bytes of the file are locked, by locks of the open
 * file description. A process that is opening the store locks byte 0, so only one opens it at a
 * time. All processes that have the store open share the lock of byte 1 for as long as they live,
 * children of fork included; a process that gets it exclusively while opening is alone. Then no
 * process can hold the mutex in the header, whatever it looks like (its last holders died, or the
 * machine was started anew), and it is made anew. A process that is not alone finds a mutex that
 * works.
 *
 * Such a lock lasts as long as any process has the description, so a child that was forked while a
 * store was being opened would keep its parent's locks: the code that refuses a store unlocks
 * first. A child closes the stores that other threads of its parent were opening (store.c).
 *
 * Nothing in the file is changed before it is known to be a store of this format and kind.
 */
#include "base/format.h"
#include "os/file.h"
#include "os/os.h"
#include "store/store.h"

#include <errno.h>

enum { BYTE_OPENING = 0, BYTE_ALIVE = 1, PATH_BYTES = 4096 };
#ifdef __GLIBC__
#define LOCK_KIND 1
#else
#define LOCK_KIND 2
#endif
#define DEFAULT_LIMIT ((size_t)1 << 40)

static const lu_store_config_t default_config = {.flags = LU_STORE_CREATE};

static int refuse(lu_store_fault_t *fault, lu_store_reason_t reason, int error, const char *what) {
    return lu__store_fault(fault, reason, error, what, 0, LU_STORE_WITHOUT, 0);
}

/* ------------------------------------------------------------------ contents */

/* The address of a new store: far from where the kernel and programs put mappings. The thread
 * sanitizer has its own places, so there the kernel chooses. */
static uint64_t choose_address(const lu_store_config_t *config, uint64_t key) {
    if (config->address != NULL) return (uint64_t)(uintptr_t)config->address;
#if defined(__SANITIZE_THREAD__)
    (void)key;
    return 0;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
    (void)key;
    return 0;
#else
    return 0x200000000000u + (key % 3072 << 34);
#endif
#else
    return 0x200000000000u + (key % 3072 << 34); /* 16 GiB apart, 48 TiB in all */
#endif
}

static void format(char *base, uint64_t size, uint64_t key, uint64_t address) {
    struct lu_store store = {.base = base, .mapped = size}; /* enough to write blocks */
    struct store_header *header = lu__store_header(&store);
    header->magic = LU_STORE_MAGIC;
    header->version = LU_STORE_FORMAT;
    header->order = LU_STORE_ORDER;
    header->header_bytes = LU_STORE_HEADER;
    header->grain_bytes = LU_STORE_GRAIN;
    header->class_count = LU_STORE_CLASSES;
    header->journal_max = LU_STORE_JOURNAL;
    header->address = address;
    header->key = key;
    header->seal = lu__store_seal(header);
    header->file_bytes = size;
    header->file_check = lu__store_check_of(&store, size);
    header->root_check = lu__store_check_of(&store, 0);
    header->journal_state = lu__store_journal_empty(key);
    uint64_t at = LU_STORE_FIRST, free_bytes = size - 8 - at;
    unsigned class = lu__store_class(free_bytes);
    *lu__store_word(&store, at) = lu__store_encode(&store, at, free_bytes, false, false);
    *lu__store_word(&store, size - 16) = free_bytes;
    *lu__store_word(&store, size - 8) = lu__store_encode(&store, size - 8, 0, true, true);
    header->heads[class] = at;
    header->bitmap[class / 64] = (uint64_t)1 << class % 64;
}

static int make_mutex(struct lu_store *store) {
    pthread_mutexattr_t attributes;
    int error = pthread_mutexattr_init(&attributes);
    if (error == 0) error = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    if (error == 0) error = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    if (error == 0) error = pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
    struct store_header *header = lu__store_header(store);
    for (size_t i = 0; i < LU_COUNT_OF(header->lock.room); i++) header->lock.room[i] = 0;
    if (error == 0) error = pthread_mutex_init(&header->lock.mutex, &attributes);
    header->lock_kind = LOCK_KIND;
    return error;
}

static uint64_t fresh_key(uint64_t seed) {
    static uint64_t made; /* two stores of one process differ */
    uint64_t number = __atomic_add_fetch(&made, 1, __ATOMIC_RELAXED);
    uint64_t key = lu__store_mix(lu__os_random() + (number << 32) + seed);
    return lu__store_mix(key ^ lu__os_now_ms());
}

/* ------------------------------------------------------------------ address space */

/* The reserved range has at least `least` bytes: as much as was requested, or by default as much of
 * 1 TiB as there is room for. All of it is mapped at once; the part behind the end of a file can be
 * used when the file has grown. */
static int reserve(struct lu_store *store, const lu_store_config_t *config, uint64_t wish,
                   size_t least, lu_store_fault_t *fault) {
    size_t limit = config->limit_bytes;
    size_t size = limit != 0 ? lu__align_up(limit, LU_STORE_GRAIN) : DEFAULT_LIMIT;
    if (size < limit || size > LU_STORE_MAX - LU_STORE_GRAIN || size < least) {
        return lu__store_fault(fault, LU_STORE_LIMIT, ENOMEM, "limit_bytes", 0, limit, least);
    }
    bool shared = store->fd < 0;
    for (;;) {
        void *base, *hint = (void *)(uintptr_t)wish;
        int error = shared ? lu__os_shared_map(hint, size, &base)
                           : lu__os_file_map(store->fd, hint, size, &base);
        if (error == 0) {
            store->base = base;
            store->reserved = size;
            if (shared) store->mapped = size;
            return 0;
        }
        size /= 2;
        if (limit != 0 || size < least) {
            lu_store_reason_t reason = error == ENOMEM ? LU_STORE_LIMIT : LU_STORE_SYSTEM;
            return lu__store_fault(fault, reason, error, "reserving address space", 0, 0, 0);
        }
    }
}

static int check_place(const struct lu_store *store, const lu_store_config_t *config, uint64_t wish,
                       lu_store_fault_t *fault) {
    uint64_t found = (uint64_t)(uintptr_t)store->base;
    if ((config->flags & LU_STORE_SAME_ADDRESS) == 0 || wish == 0 || found == wish) return 0;
    return lu__store_fault(fault, LU_STORE_ADDRESS, EADDRINUSE, "address", LU_STORE_OFFSET(address),
                           found, wish);
}

/* ------------------------------------------------------------------ opening */

/* The file is mapped, the lock held, and recovery done: verify the rest. */
static int verify(struct lu_store *store, lu_store_fault_t *fault) {
    struct lu__os_file_info info;
    int error = lu__store_file(store, &info);
    if (error != 0) return lu__store_fault(fault, LU_STORE_SYSTEM, error, "fstat", 0, 0, 0);
    uint64_t bytes = lu__store_header(store)->file_bytes;
    lu__store_begin(store, fault);
    if (lu__store_check_of(store, bytes) == lu__store_header(store)->file_check) {
        if (info.bytes < bytes) {
            return lu__store_fault(fault, LU_STORE_TRUNCATED, EUCLEAN, "length of the file", 0,
                                   info.bytes, bytes);
        }
        if (info.bytes > bytes && info.bytes > lu__store_header(store)->growing) {
            return lu__store_fault(fault, LU_STORE_SIZE, EUCLEAN, "length of the file", 0,
                                   info.bytes, bytes);
        }
        error = lu__store_map(store, bytes);
        if (error != 0) return lu__store_fault(fault, LU_STORE_SYSTEM, error, "mmap", 0, 0, 0);
    }
    bool all = (store->flags & LU_STORE_VERIFY) != 0;
    return (all ? lu__store_verify(store) : lu__store_verify_quick(store)) ? 0 : store->error;
}

/* The mutex as it lies in the file, to be put back if the store is refused. */
struct mutex_area {
    uint64_t kind, room[LU_COUNT_OF(((struct store_header *)NULL)->lock.room)];
};

static struct mutex_area mutex_save(const struct store_header *header) {
    struct mutex_area area = {.kind = header->lock_kind};
    for (size_t i = 0; i < LU_COUNT_OF(area.room); i++) area.room[i] = header->lock.room[i];
    return area;
}

static void mutex_restore(struct store_header *header, const struct mutex_area *area) {
    header->lock_kind = area->kind;
    for (size_t i = 0; i < LU_COUNT_OF(area->room); i++) header->lock.room[i] = area->room[i];
}

/* Take the lock; recover; verify. */
static int enter_locked(struct lu_store *store, lu_store_fault_t *fault) {
    store->fault = fault;
    if (fault != NULL) fault->reason = LU_STORE_FINE;
    int error = lu__store_lock(store);
    if (error != 0 && fault != NULL && fault->reason != LU_STORE_FINE) return error;
    if (error != 0) return lu__store_fault(fault, LU_STORE_SYSTEM, error, "the mutex", 0, 0, 0);
    error = verify(store, fault);
    lu__store_leave(store);
    return error;
}

/* The lock, made anew if the process is alone; then the rest. */
static int enter_file(struct lu_store *store, lu_store_fault_t *fault) {
    int error = lu__os_file_lock(store->fd, BYTE_ALIVE, LU_OS_FILE_EXCLUDE, false);
    store->alone = error == 0;
    if (error == EAGAIN) error = lu__os_file_lock(store->fd, BYTE_ALIVE, LU_OS_FILE_SHARE, true);
    if (error != 0) return lu__store_fault(fault, LU_STORE_SYSTEM, error, "locking", 0, 0, 0);
    struct store_header *header = lu__store_header(store);
    if (!store->alone && header->lock_kind != LOCK_KIND) {
        return lu__store_fault(fault, LU_STORE_LAYOUT, EINVAL, "kind of mutex",
                               LU_STORE_OFFSET(lock_kind), header->lock_kind, LOCK_KIND);
    }
    struct mutex_area before = mutex_save(header);
    if (store->alone) error = make_mutex(store);
    if (error != 0) return lu__store_fault(fault, LU_STORE_SYSTEM, error, "the mutex", 0, 0, 0);
    error = enter_locked(store, fault);
    if (error != 0 && store->alone) mutex_restore(header, &before);
    if (error == 0 && store->alone) {
        error = lu__os_file_lock(store->fd, BYTE_ALIVE, LU_OS_FILE_SHARE, true);
        if (error != 0) return lu__store_fault(fault, LU_STORE_SYSTEM, error, "locking", 0, 0, 0);
    }
    return error;
}

/* Everything after open(2). */
static int attach(struct lu_store *store, const lu_store_config_t *config,
                  lu_store_fault_t *fault) {
    struct lu__os_file_info info;
    int error = lu__os_file_info(store->fd, &info);
    if (error != 0) return lu__store_fault(fault, LU_STORE_SYSTEM, error, "fstat", 0, 0, 0);
    store->device = info.device;
    store->inode = info.inode;
    store->is_known = true;
    if (!info.regular) return refuse(fault, LU_STORE_NOT_FILE, EINVAL, "not a regular file");
    if (info.bytes == 0) return refuse(fault, LU_STORE_FOREIGN, EINVAL, "the file is empty");
    error = lu__os_file_lock(store->fd, BYTE_OPENING, LU_OS_FILE_EXCLUDE, true);
    if (error == 0) error = lu__store_file(store, &info); /* as it is under the lock */
    union { /* the constant part, zero where the file ends before */
        struct store_header header;
        char bytes[LU_STORE_OFFSET(file_bytes)];
    } head = {.bytes = {0}};
    if (error == 0) {
        error = lu__os_file_read(store->fd, 0, head.bytes, LU_MIN(sizeof head.bytes, info.bytes));
    }
    if (error != 0) return lu__store_fault(fault, LU_STORE_SYSTEM, error, "reading", 0, 0, 0);
    error = lu__store_verify_constant(&head.header, info.bytes, fault);
    if (error != 0) return error;
    size_t mappable = lu__align_down(info.bytes, LU_STORE_GRAIN);
    error = reserve(store, config, head.header.address, mappable, fault);
    if (error == 0) error = check_place(store, config, head.header.address, fault);
    if (error != 0) return error;
    error = lu__store_map(store, mappable);
    if (error != 0) return lu__store_fault(fault, LU_STORE_SYSTEM, error, "mmap", 0, 0, 0);
    error = enter_file(store, fault);
    if (error != 0) return error;
    error = lu__os_file_lock(store->fd, BYTE_OPENING, LU_OS_FILE_UNLOCK, false);
    return error == 0 ? 0 : lu__store_fault(fault, LU_STORE_SYSTEM, error, "unlocking", 0, 0, 0);
}

/* Write an empty store to a new file. 0 or an errno value. */
static int fill(const struct lu_store *store, const lu_store_config_t *config) {
    struct lu__os_file_info info;
    void *base = NULL;
    int error = lu__os_file_info(store->fd, &info);
    if (error == 0) error = lu__os_file_resize(store->fd, LU_STORE_GRAIN);
    if (error == 0) error = lu__os_file_allocate(store->fd, 0, LU_STORE_GRAIN);
    if (error == 0) error = lu__os_file_map(store->fd, NULL, LU_STORE_GRAIN, &base);
    if (error != 0) return error;
    uint64_t key = fresh_key(info.inode);
    format(base, LU_STORE_GRAIN, key, choose_address(config, key));
    return lu__os_unmap(base, LU_STORE_GRAIN);
}

/* A new file with an empty store, opened, and then linked to `path`, so that what is refused leaves
 * nothing behind. EEXIST, with nothing opened, if there is one now. */
static int create(struct lu_store *store, const char *path, const lu_store_config_t *config,
                  lu_store_fault_t *fault) {
    char scratch[PATH_BYTES + 32];
    unsigned mode = config->mode != 0 ? config->mode & 0777 : 0600;
    int error = lu__os_file_create(path, mode, scratch, sizeof scratch, &store->fd);
    if (error == 0) {
        error = fill(store, config);
        int refused = error == 0 ? attach(store, config, fault) : 0;
        int published = lu__os_file_publish(store->fd, scratch,
                                            error == 0 && refused == 0 ? path : "");
        if (refused != 0) return refused;
        if (error == 0) error = published;
        if (error == EEXIST) lu__store_detach(store);
    }
    if (error == 0 || error == EEXIST) return error;
    return lu__store_fault(fault, LU_STORE_SYSTEM, error, "creating the file", 0, 0, 0);
}

/* Open the file, made first if it may be, and the store in it. */
static int open_path(struct lu_store *store, const char *path, const lu_store_config_t *config,
                     lu_store_fault_t *fault) {
    int error = lu__os_file_open(path, &store->fd);
    if (error == ENOENT && (config->flags & LU_STORE_CREATE) != 0) {
        error = create(store, path, config, fault);
        if (error != EEXIST) return error;
        error = lu__os_file_open(path, &store->fd);
    }
    if (error == 0) return attach(store, config, fault);
    if (error == EISDIR) return refuse(fault, LU_STORE_NOT_FILE, error, "a directory");
    return lu__store_fault(fault, LU_STORE_SYSTEM, error, "opening the file", 0, 0, 0);
}

/* Checks the arguments and claims a slot. */
static int start(const lu_store_config_t *config, lu_store_fault_t *fault, struct lu_store **out) {
    unsigned known = LU_STORE_CREATE | LU_STORE_SPARSE | LU_STORE_SAME_ADDRESS | LU_STORE_VERIFY;
    if ((config->flags & ~known) != 0) return refuse(fault, LU_STORE_USAGE, EINVAL, "flags");
    if ((uintptr_t)config->address % LU_STORE_GRAIN != 0) {
        return refuse(fault, LU_STORE_USAGE, EINVAL, "address is not a multiple of 64 KiB");
    }
    *out = lu__store_claim();
    if (*out == NULL) return refuse(fault, LU_STORE_USAGE, EMFILE, "64 stores are open");
    (*out)->flags = config->flags;
    return 0;
}

/* Unlock before the descriptor is closed: children that were forked meanwhile have it, too, and
 * would keep the locks. */
static void give_back(struct lu_store *store) {
    for (uint64_t byte = BYTE_OPENING; store->fd >= 0 && byte <= BYTE_ALIVE; byte++) {
        (void)!lu__os_file_lock(store->fd, byte, LU_OS_FILE_UNLOCK, false);
    }
    lu__store_drop(store);
}

static lu_store_t *finish(struct lu_store *store, int error, lu_store_fault_t *fault) {
    if (error == 0 && !lu__store_open(store)) {
        error = refuse(fault, LU_STORE_USAGE, EINVAL, "forked while opening");
    }
    if (error == 0) {
        if (fault != NULL) *fault = (lu_store_fault_t){.reason = LU_STORE_FINE};
        return store;
    }
    if (store != NULL) give_back(store);
    errno = error;
    return NULL;
}

lu_store_t *lu_heap_open_file(const char *path, const lu_store_config_t *config,
                              lu_store_fault_t *fault) {
    if (config == NULL) config = &default_config;
    struct lu_store *store = NULL;
    int error;
    if (path == NULL || path[0] == '\0') {
        error = refuse(fault, LU_STORE_USAGE, path == NULL ? EINVAL : ENOENT, "path");
    } else if (__builtin_strlen(path) >= PATH_BYTES) {
        error = refuse(fault, LU_STORE_USAGE, ENAMETOOLONG, "path");
    } else {
        error = start(config, fault, &store);
        if (error == 0) error = open_path(store, path, config, fault);
    }
    return finish(store, error, fault);
}

lu_store_t *lu_heap_open_shared(const lu_store_config_t *config, lu_store_fault_t *fault) {
    if (config == NULL) config = &default_config;
    struct lu_store *store = NULL;
    int error = start(config, fault, &store);
    if (error == 0) {
        uint64_t key = fresh_key((uint64_t)(uintptr_t)store);
        uint64_t wish = choose_address(config, key);
        error = reserve(store, config, wish, LU_STORE_GRAIN, fault);
        if (error == 0 && config->address != NULL) error = check_place(store, config, wish, fault);
        if (error == 0) {
            format(store->base, LU_STORE_GRAIN, key, (uint64_t)(uintptr_t)store->base);
            error = make_mutex(store);
            if (error != 0) (void)lu__store_fault(fault, LU_STORE_SYSTEM, error, "mutex", 0, 0, 0);
        }
    }
    return finish(store, error, fault);
}
