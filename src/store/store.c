/*
 * store.c - stores that are open in this process: the table, the lock, addresses and handles.
 *
 *     open_stores[i].base -> | the file, or all of the shared memory | addresses to grow into |
 *
 * The program's pointer is the address of a slot in a static table, so that a pointer that is not a
 * store, or one that was closed, is refused. A slot's `state` goes 0 -> 1 -> 2 at opening (a
 * compare-and-swap to 1 claims the slot) and 2 -> 1 -> 0 at closing.
 *
 * The lock in the header is a robust mutex of POSIX, shared by all processes. When its holder dies,
 * the kernel tells the next process that takes it, which first undoes the operation of the dead one
 * (lu__store_recover). If that fails, the mutex is left unrecoverable, so that all processes get
 * ENOTRECOVERABLE until one that is alone opens the file. The mutex is of the error checking type:
 * a call from a signal handler that interrupted another one fails with EDEADLK and does not hang.
 *
 * A waiter tries again every 10 ms. If a process is killed after it has released the mutex and
 * before it has woken a waiter, waking is left to the kernel, which does it only if no other
 * process has taken the mutex in between; the same holds for a process that was woken and is killed
 * before it takes the mutex. The other processes then do not know of the waiter, which would sleep
 * on.
 *
 * Fork. Children inherit the stores that are open, but not those that another thread is opening or
 * closing: lu__store_fork_child drops them. If a signal handler forks while it interrupts a call on
 * a store, that call goes on in the child too, which does not have the lock. So in the child the
 * store's memory is first replaced by zeros, and the store is given up (state 3). `inside` says
 * which store.
 *
 * The program may close the descriptor, by mistake or because it closes all. Its number may then
 * refer to another file, so it is used only while device and inode are the store's.
 *
 * `mapped` grows under the lock when the header says that another process has made the store
 * larger; reading it needs no lock (acquire, pairs with the release in lu__store_map), so handles
 * become pointers by two comparisons and one addition.
 */
#include "os/file.h"
#include "os/kernel.h"
#include "os/os.h"
#include "os/process.h"
#include "store/store.h"

#include <errno.h>
#include <time.h>

enum { STORES = 64, FREE = 0, BUSY = 1, OPEN = 2, TRIES = 8, NAP_NS = 10 * 1000 * 1000 };

static struct lu_store open_stores[STORES];
/* The stores whose lock the calling thread takes or has taken: one, and more if signal handlers
 * interrupt it. The array overflows only after jumps out of handlers; further stores are then not
 * noted. */
static __thread struct {
    uint8_t stores[7]; /* of open_stores; small, as libc has little room for thread-locals */
    uint8_t count;
} inside __attribute__((tls_model("initial-exec")));

/* What is true of one file only. */
static void forget(struct lu_store *store) {
    store->reserved = store->mapped = 0;
    store->alone = store->is_known = false;
    store->idle = 0;
    __builtin_memset(store->hints, 0, sizeof store->hints);
}

struct lu_store *lu__store_claim(void) {
    lu__process_also(lu__store_fork_child);
    for (size_t i = 0; i < STORES; i++) {
        uint32_t expected = FREE;
        if (!__atomic_compare_exchange_n(&open_stores[i].state, &expected, BUSY, false,
                                         __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
            continue;
        }
        struct lu_store *store = &open_stores[i];
        store->mover = pthread_self();
        store->fd = -1;
        store->base = NULL;
        store->fault = NULL;
        forget(store);
        return store;
    }
    return NULL;
}

/* A child that is forked in between must not find what is given back. */
static void close_file(struct lu_store *store) {
    int fd = store->fd;
    struct lu__os_file_info info;
    bool ours = fd >= 0 && (!store->is_known || lu__store_file(store, &info) == 0);
    __atomic_store_n(&store->fd, -1, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (ours) lu__os_file_close(fd);
}

void lu__store_detach(struct lu_store *store) {
    char *base = store->base;
    __atomic_store_n(&store->base, NULL, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (base != NULL) (void)lu__os_unmap(base, store->reserved);
    close_file(store);
    forget(store);
}

void lu__store_drop(struct lu_store *store) {
    lu__store_detach(store);
    __atomic_store_n(&store->state, FREE, __ATOMIC_RELEASE);
}

int lu__store_file(const struct lu_store *store, struct lu__os_file_info *info) {
    int error = lu__os_file_info(store->fd, info);
    if (error != 0) return error;
    return info->device == store->device && info->inode == store->inode ? 0 : EBADF;
}

bool lu__store_open(struct lu_store *store) {
    uint32_t expected = BUSY;
    return __atomic_compare_exchange_n(&store->state, &expected, OPEN, false, __ATOMIC_RELEASE,
                                       __ATOMIC_RELAXED);
}

bool lu__store_is_open(const struct lu_store *store) {
    uintptr_t at = (uintptr_t)store - (uintptr_t)open_stores;
    return at < sizeof open_stores && at % sizeof(struct lu_store) == 0 &&
           __atomic_load_n(&store->state, __ATOMIC_ACQUIRE) == OPEN;
}

/* ------------------------------------------------------------------ fork */

/* The call of this thread that fork interrupted goes on in the child as well. There it must find
 * only zeros and no file: that ends it without harm to the processes that share the memory. */
static void give_up(struct lu_store *store) {
    char *base = store->base;
    if (base != NULL && lu__os_file_forget(base, store->reserved) != 0) {
        (void)lu__os_unmap(base, store->reserved);
    }
    close_file(store);
    __atomic_store_n(&store->state, LU_STORE_LOST, __ATOMIC_RELEASE);
}

void lu__store_fork_child(bool alone) {
    if (!alone) return;
    for (size_t i = 0; i < STORES; i++) {
        struct lu_store *store = &open_stores[i];
        store->fault = NULL; /* of a thread that is not here */
        if (__atomic_load_n(&store->state, __ATOMIC_RELAXED) != BUSY) continue;
        if (pthread_equal(store->mover, pthread_self())) {
            give_up(store);
        } else {
            lu__store_drop(store);
        }
    }
    for (unsigned i = 0; i < LU_MIN(inside.count, LU_COUNT_OF(inside.stores)); i++) {
        struct lu_store *store = &open_stores[inside.stores[i]];
        if (__atomic_load_n(&store->state, __ATOMIC_RELAXED) == OPEN) give_up(store);
    }
}

/* ------------------------------------------------------------------ the lock */

static int wait_for(pthread_mutex_t *mutex) {
    for (;;) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += NAP_NS;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        int error = pthread_mutex_timedlock(mutex, &until);
        if (error != ETIMEDOUT) return error;
    }
}

/* Spin a little first: an operation takes less time than going to sleep, and the holder would have
 * to wake the sleeper. */
static int take(pthread_mutex_t *mutex) {
    int error = pthread_mutex_trylock(mutex);
    for (unsigned i = 1; error == EBUSY && i <= TRIES; i++) {
        for (unsigned j = 0; j < i; j++) lu__cpu_pause();
        error = pthread_mutex_trylock(mutex);
    }
    return error == EBUSY ? wait_for(mutex) : error;
}

/* Both are consistent at any instant, for a child that a signal handler forks. */
static void go_in(struct lu_store *store) {
    if (LU_LIKELY(inside.count < LU_COUNT_OF(inside.stores))) {
        inside.stores[inside.count] = (uint8_t)(store - open_stores);
    }
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    inside.count++;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static void come_out(void) {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    inside.count--;
}

static void release(struct lu_store *store) {
    (void)pthread_mutex_unlock(&lu__store_header(store)->lock.mutex);
    come_out();
}

/* The dead process may have made the file larger, and the words to be undone may lie there: map all
 * of the file. False: this process has no addresses for it. */
static bool map_what_is_there(struct lu_store *store) {
    uint64_t bytes = lu__store_header(store)->file_bytes;
    struct lu__os_file_info info;
    if (store->fd >= 0 && lu__store_file(store, &info) == 0) {
        bytes = LU_MAX(bytes, lu__align_down(info.bytes, LU_STORE_GRAIN));
    }
    bool fits = bytes <= store->reserved;
    bytes = LU_MIN(bytes, store->reserved);
    if (bytes > store->mapped) __atomic_store_n(&store->mapped, bytes, __ATOMIC_RELEASE);
    return fits;
}

/* With the mutex held. 0, or the reason why it was released. If another process can recover the
 * store, it is left as it is; if none can, the mutex becomes unrecoverable. */
static int put_in_order(struct lu_store *store, bool died) {
    if (!died && lu__store_is_recovered(store)) return 0;
    pthread_mutex_t *mutex = &lu__store_header(store)->lock.mutex;
    bool fits = map_what_is_there(store), recovered = lu__store_recover(store);
    int error = recovered ? 0 : fits ? store->error : ENOMEM;
    if (died && (recovered || !fits)) (void)pthread_mutex_consistent(mutex);
    if (error != 0) release(store);
    return error;
}

int lu__store_lock(struct lu_store *store) {
    go_in(store);
    int error = take(&lu__store_header(store)->lock.mutex);
    if (error != EOWNERDEAD && error != 0) {
        come_out();
        return error;
    }
    if (store->idle == 0) store->idle = lu__store_journal_empty(lu__store_header(store)->key);
    lu__store_begin(store, store->fault);
    return put_in_order(store, error == EOWNERDEAD);
}

bool lu__store_enter(struct lu_store *store, lu_store_fault_t *fault, int *error) {
    *error = EINVAL;
    if (!lu__store_is_open(store)) {
        (void)lu__store_fault(fault, LU_STORE_USAGE, EINVAL, "not an open store", 0,
                              LU_STORE_WITHOUT, 0);
        return false;
    }
    *error = lu__store_lock(store);
    if (*error == 0) {
        uint64_t bytes = lu__store_header(store)->file_bytes;
        if (bytes > store->mapped) *error = lu__store_map(store, bytes);
        lu__store_begin(store, fault);
        if (LU_LIKELY(*error == 0)) return true;
        lu__store_leave(store);
    }
    (void)lu__store_fault(fault, LU_STORE_SYSTEM, *error, "taking the lock", 0, 0, 0);
    return false;
}

void lu__store_leave(struct lu_store *store) {
    store->fault = NULL; /* it is the caller's, and ends with its call */
    release(store);
}

int lu__store_map(struct lu_store *store, uint64_t bytes) {
    if (bytes <= store->mapped) return 0;
    if (bytes > store->reserved || bytes % LU_STORE_GRAIN != 0) return ENOMEM;
    __atomic_store_n(&store->mapped, bytes, __ATOMIC_RELEASE);
    return 0;
}

int lu_store_close(lu_store_t *store) {
    int error;
    if (lu__store_enter(store, NULL, &error)) {
        lu__store_leave(store);
    } else if (error == EINVAL || error == EDEADLK) {
        return error;
    }
    uint32_t expected = OPEN;
    if (!__atomic_compare_exchange_n(&store->state, &expected, BUSY, false, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED)) {
        return EINVAL;
    }
    store->mover = pthread_self();
    lu__store_drop(store);
    return 0;
}

/* ------------------------------------------------------------------ addresses and the root */

static uint64_t size_of(const struct lu_store *store) {
    return __atomic_load_n(&lu__store_header(store)->file_bytes, __ATOMIC_ACQUIRE);
}

/* All of it must be mapped, not just where the block begins. */
static bool is_mapped(const struct lu_store *store) {
    return size_of(store) <= __atomic_load_n(&store->mapped, __ATOMIC_ACQUIRE);
}

uint64_t lu_store_handle(lu_store_t *store, const void *address) {
    if (address == NULL) return 0;
    if (lu__store_is_open(store)) {
        uint64_t offset = (uint64_t)((uintptr_t)address - (uintptr_t)store->base);
        if (offset > LU_STORE_FIRST && offset < size_of(store)) return offset;
    }
    errno = EINVAL;
    return 0;
}

void *lu_store_pointer(lu_store_t *store, uint64_t handle) {
    if (handle == 0) return NULL;
    int error = EINVAL;
    if (lu__store_is_open(store) && handle > LU_STORE_FIRST && handle < size_of(store)) {
        if (is_mapped(store)) return store->base + handle;
        /* Another process has made it larger: entering maps what is new. */
        if (lu__store_enter(store, NULL, &error)) {
            lu__store_leave(store);
            return store->base + handle;
        }
    }
    errno = error;
    return NULL;
}

/* Under the lock, because the value of an operation that has not ended may still be undone. */
uint64_t lu_store_root(lu_store_t *store) {
    int error;
    if (!lu__store_enter(store, NULL, &error)) {
        errno = error;
        return 0;
    }
    uint64_t root = lu__store_header(store)->root;
    lu__store_leave(store);
    return root;
}

/* Without the lock, for which others would wait as long as the disk takes. */
int lu_store_sync(lu_store_t *store) {
    int error;
    if (!lu__store_enter(store, NULL, &error)) return error;
    uint64_t bytes = lu__store_header(store)->file_bytes;
    lu__store_leave(store);
    return store->fd >= 0 ? lu__os_file_sync(store->base, bytes) : 0;
}

int lu_store_info(lu_store_t *store, lu_store_info_t *out) {
    int error;
    if (out == NULL) return EINVAL;
    if (!lu__store_enter(store, NULL, &error)) return error;
    const struct store_header *header = lu__store_header(store);
    *out = (lu_store_info_t){
        .address = store->base,
        .size_bytes = header->file_bytes,
        .limit_bytes = store->reserved,
        .live_bytes = header->live_bytes - header->live_blocks * LU_STORE_WORD,
        .live_blocks = header->live_blocks,
        .recoveries = header->recoveries,
        .moved = (uint64_t)(uintptr_t)store->base != header->address,
        .shared = store->fd < 0,
    };
    lu__store_leave(store);
    return 0;
}
