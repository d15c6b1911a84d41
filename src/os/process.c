/*
 * process.c - the notice that this process is a copy of another one.
 *
 * fork calls a handler of lucid in the child. Other ways to copy a process do not: the system call
 * clone (container runtimes and init systems use it), _Fork. In such a child the threads that held
 * locks do not exist, and a thread that waits for a lock waits for ever. So there is a page that
 * the kernel fills with zeros in a copy (MADV_WIPEONFORK, Linux 4.14), with one word:
 *
 *     LU_PROCESS_KNOWN   in order
 *     0                  a copy, in which nobody has looked yet
 *     name | 1           a copy that the thread of that name puts in order; others wait
 *
 * Every thread looks at the word before it takes a lock, so the copy is put in order before its
 * first lock is taken. A child that shares the memory (CLONE_VM, vfork) shares the page as well:
 * there the holder of a lock is alive, and waiting for it works.
 *
 *     who looks first                       what is done
 *     the thread that was copied            all that fork's handler does
 *     another, made in the copy meanwhile   locks and what they guard; heaps stay as they are: one
 *                                           may be that of the thread that was copied, which still
 *                                           uses it on fast paths
 *
 * The thread's name tells the cases apart: only the thread that was copied has a name already.
 *
 * The page is made when a second thread takes a lock: before, no thread waits for one, and programs
 * of one thread pay nothing. Until then threads look at lu__process_first, which is cleared when
 * there is a page, so that they come to lu__lock_me_slow, which directs them to the page.
 *
 * The page does not help in two cases: if it was made in a copy, for a thread that had taken no
 * lock before it was copied, while the first thread held one; and if the kernel refuses it. Then a
 * thread waits for a lock in vain, and after a while it asks the kernel whether any other thread
 * has this memory (lu__process_doubt). It does not ask in other cases, because seccomp filters may
 * kill a process for such a call.
 *
 * No lock: the functions that take locks call this.
 */
#include "os/process.h"

#include "os/os.h"

uint32_t lu__process_first;
static uint32_t *own_word;                                     /* atomic; in the page, or NULL */
static lu__process_order_fn *put_in_order, *put_more_in_order; /* atomic */
static bool refused;                                           /* atomic */

void lu__process_begin(lu__process_order_fn *order) {
    __atomic_store_n(&put_in_order, order, __ATOMIC_RELEASE);
}

void lu__process_also(lu__process_order_fn *order) {
    __atomic_store_n(&put_more_in_order, order, __ATOMIC_RELEASE);
}

const uint32_t *lu__process_word(void) {
    const uint32_t *word = __atomic_load_n(&own_word, __ATOMIC_SEQ_CST);
    return word != NULL ? word : &lu__process_first;
}

bool lu__process_is_known(void) {
    return __atomic_load_n(&own_word, __ATOMIC_RELAXED) != NULL;
}

/* Also called in a signal handler that interrupts another call of it. */
static void watch(void) {
    uint32_t *none = NULL;
    void *page;
    if (lu__os_map_wiped(&page) != 0) {
        __atomic_store_n(&refused, true, __ATOMIC_RELAXED);
        return;
    }
    *(uint32_t *)page = LU_PROCESS_KNOWN;
    if (!__atomic_compare_exchange_n(&own_word, &none, page, false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_RELAXED)) {
        lu__os_unmap(page, LU_OS_PAGE);
    }
}

void lu__process_meet(uint32_t count) {
    bool wanted = count > 1 && __atomic_load_n(&put_in_order, __ATOMIC_ACQUIRE) != NULL;
    bool watched = __atomic_load_n(&own_word, __ATOMIC_SEQ_CST) != NULL;
    if (wanted && !watched && !__atomic_load_n(&refused, __ATOMIC_RELAXED)) watch();
    /* The thread that stores last has seen the page; otherwise the caller looks at it
     * afterwards. */
    watched = __atomic_load_n(&own_word, __ATOMIC_SEQ_CST) != NULL;
    __atomic_store_n(&lu__process_first, watched ? 0 : LU_PROCESS_KNOWN, __ATOMIC_SEQ_CST);
}

static void finish(uint32_t *word, bool alone) {
    __atomic_load_n(&put_in_order, __ATOMIC_ACQUIRE)(alone);
    lu__process_order_fn *more = __atomic_load_n(&put_more_in_order, __ATOMIC_ACQUIRE);
    if (more != NULL) more(alone);
    if (word == NULL) return;
    __atomic_store_n(word, LU_PROCESS_KNOWN, __ATOMIC_RELEASE); /* partner: lu__lock_me */
    lu__os_wake(word, true);
}

void lu__process_see(uint32_t name, bool alone) {
    uint32_t *word = __atomic_load_n(&own_word, __ATOMIC_ACQUIRE);
    while (word != NULL) {
        uint32_t seen = 0;
        if (__atomic_compare_exchange_n(word, &seen, name | 1, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_ACQUIRE)) {
            finish(word, alone);
            return;
        }
        /* `name | 1`: called from finish, or by a handler above it. */
        if (seen == LU_PROCESS_KNOWN || seen == (name | 1)) return;
        (void)lu__os_wait(word, seen);
    }
}

void lu__process_doubt(void) {
    if (__atomic_load_n(&put_in_order, __ATOMIC_ACQUIRE) == NULL || !lu__os_alone()) return;
    finish(__atomic_load_n(&own_word, __ATOMIC_ACQUIRE), true);
}

void lu__process_forked(uint32_t name) {
    uint32_t *word = __atomic_load_n(&own_word, __ATOMIC_ACQUIRE);
    /* Whatever the word is: an emulator may not have wiped the page; and where it was wiped, a fork
     * handler of another library may have allocated before ours, and the work is then done a second
     * time. */
    if (word != NULL) __atomic_store_n(word, name | 1, __ATOMIC_RELAXED);
    finish(word, true);
}

void lu__process_end(void) {
    uint32_t *word = __atomic_load_n(&own_word, __ATOMIC_RELAXED);
    if (word != NULL) lu__os_unmap(word, LU_OS_PAGE);
}
