/*
 * test_lock.c - who holds a lock, who may take one, and in which order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/lock.h"

static struct lu__lock heap = LU_LOCK_INIT(LU_RANK_HEAP), other = LU_LOCK_INIT(LU_RANK_HEAP);
static struct lu__lock pool = LU_LOCK_INIT(LU_RANK_POOL), leaf = LU_LOCK_INIT(LU_RANK_LEAF);

static void *ask(void *arg) {
    bool *mine = arg;
    *mine = lu__lock_is_mine(&pool);
    return NULL;
}

static void the_holder_is_known(void **state) {
    (void)state;
    pthread_t thread;
    bool mine = true;
    assert_true(lu__inside_enter());
    assert_false(lu__lock_is_mine(&pool));
    lu__lock_acquire(&pool);
    assert_true(lu__lock_is_mine(&pool));
    assert_false(lu__lock_try(&pool));
    assert_int_equal(pthread_create(&thread, NULL, ask, &mine), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_false(mine);
    lu__lock_release(&pool);
    assert_false(lu__lock_is_mine(&pool));
    lu__inside_leave();
}

static void *hold(void *arg) {
    lu__inside_set(1);
    lu__lock_acquire(arg);
    return NULL;
}

static void the_child_frees_what_others_held(void **state) {
    (void)state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, hold, &leaf), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(lu__inside_enter());
    lu__lock_acquire(&pool);
    assert_false(lu__lock_fork_child(&pool)); /* mine */
    assert_false(lu__lock_fork_child(&heap)); /* free */
    assert_true(lu__lock_fork_child(&leaf));
    assert_true(lu__lock_try(&leaf));
    lu__lock_release(&leaf);
    lu__lock_release(&pool);
    lu__inside_leave();
}

/* ---------------------------------------------------------------- copies of the process */

#if !LU_PROCESS_ATOMIC /* the thread sanitizer has locks of its own, and knows fork only */

static struct lu__lock vanished = LU_LOCK_INIT(LU_RANK_LEAF);
static int orders[2]; /* by who is among others, and by who is alone */

static void put_in_order(bool alone) {
    orders[alone]++;
    (void)lu__lock_fork_child(&vanished);
}

static void *take_and_give(void *arg) {
    lu__inside_set(1);
    lu__lock_acquire(arg);
    lu__lock_release(arg);
    lu__inside_set(0);
    return NULL;
}

/* By the system call: no handler of fork runs. The child ends well if `body` says so. */
static void copy_process(bool (*body)(void)) {
    int status = 0;
    pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (child == 0) _exit(body() ? 0 : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static bool by_the_copied(void) {
    alarm(60); /* else it waits for ever */
    take_and_give(&vanished);
    take_and_give(&vanished);
    return orders[1] == 1 && orders[0] == 0;
}

static bool by_another_first(void) {
    alarm(60);
    pthread_t thread;
    if (pthread_create(&thread, NULL, take_and_give, &vanished) != 0) return false;
    if (pthread_join(thread, NULL) != 0) return false;
    take_and_give(&vanished);
    return orders[1] == 0 && orders[0] == 1;
}

static bool by_the_copied_again(void) {
    take_and_give(&vanished);
    return orders[1] == 2 && orders[0] == 0;
}

static bool by_a_copy_of_a_copy(void) {
    alarm(60);
    take_and_give(&vanished);
    copy_process(by_the_copied_again);
    return orders[1] == 1;
}

static void *make_copies(void *arg) {
    (void)arg;
    take_and_give(&leaf);
    copy_process(by_the_copied);
    copy_process(by_another_first);
    assert_int_equal(orders[0] + orders[1], 0); /* this one knows itself */
    copy_process(by_a_copy_of_a_copy);
    return NULL;
}

static bool still_held(void) {
    return !lu__lock_is_mine(&vanished) && !lu__lock_try(&vanished) && orders[0] + orders[1] == 0;
}

static volatile bool is_shared;

/* It shares the memory: the holder lives, and is to be waited for. */
static pid_t share_process(void) {
    pid_t child = vfork();
    if (child != 0) return child;
    is_shared = true;
    _exit(still_held() ? 0 : 1);
}

static void a_copy_is_put_in_order_before_its_first_lock(void **state) {
    (void)state;
    pthread_t thread;
    lu__process_begin(put_in_order);
    orders[0] = orders[1] = 0;
    assert_int_equal(pthread_create(&thread, NULL, hold, &vanished), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(lu__inside_enter());
    lu__lock_acquire(&pool);
    lu__lock_release(&pool);
    int status = 0;
    pid_t child = share_process();
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, is_shared ? 0 : 1 << 8); /* QEMU makes a copy, which is one */
    lu__inside_leave();
    make_copies(NULL);
    assert_int_equal(pthread_create(&thread, NULL, make_copies, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

#endif

static void who_is_inside_does_not_enter(void **state) {
    (void)state;
    assert_true(lu__inside_enter());
    assert_false(lu__inside_enter());
    lu__inside_leave();
    assert_true(lu__inside_enter());
    lu__inside_leave();
}

/* ---------------------------------------------------------------- what debug builds refuse */

static void rising(void) {
    lu__inside_set(1);
    lu__lock_acquire(&heap);
    lu__lock_acquire(&pool);
    lu__lock_acquire(&leaf);
}
static void falling(void) {
    lu__inside_set(1);
    lu__lock_acquire(&pool);
    lu__lock_acquire(&heap);
}
static void two_heaps(void) {
    lu__inside_set(1);
    lu__lock_acquire(&heap);
    lu__lock_acquire(&other);
}
static void two_leaves(void) {
    static struct lu__lock second = LU_LOCK_INIT(LU_RANK_LEAF);
    lu__inside_set(1);
    lu__lock_acquire(&leaf);
    lu__lock_acquire(&second);
}
static void unmarked(void) {
    lu__lock_acquire(&leaf);
}
static void tried_unmarked(void) {
    if (!lu__lock_try(&leaf)) _exit(1);
}

static bool ends_well(void (*body)(void)) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        (void)close(2);
        body();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status == 0;
}

static void rules_are_enforced_in_debug_builds(void **state) {
    (void)state;
    assert_true(ends_well(rising));
    assert_int_equal(ends_well(falling), LU_DEBUG < 1);
    assert_int_equal(ends_well(two_leaves), LU_DEBUG < 1);
    assert_int_equal(ends_well(two_heaps), LU_DEBUG < 1);
    assert_int_equal(ends_well(unmarked), LU_DEBUG < 1);
    assert_int_equal(ends_well(tried_unmarked), LU_DEBUG < 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_holder_is_known),
        cmocka_unit_test(the_child_frees_what_others_held),
#if !LU_PROCESS_ATOMIC
        cmocka_unit_test(a_copy_is_put_in_order_before_its_first_lock),
#endif
        cmocka_unit_test(who_is_inside_does_not_enter),
        cmocka_unit_test(rules_are_enforced_in_debug_builds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
