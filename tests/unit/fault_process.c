/*
 * fault_process.c - a kernel that has no page which a copy of the process finds zero.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lucid/lucid.h"
#include "os/lock.h"
#include "os_fault.h"

static struct lu__lock lock = LU_LOCK_INIT(LU_RANK_LEAF);
static int orders;

static void put_in_order(bool alone) {
    orders += alone;
    (void)lu__lock_fork_child(&lock);
}

static void *hold(void *arg) {
    (void)arg;
    lu__inside_set(1);
    lu__lock_acquire(&lock);
    return NULL;
}

static const uint32_t *take_and_give(void) {
    lu__inside_set(1);
    lu__lock_acquire(&lock);
    lu__lock_release(&lock);
    lu__inside_set(0);
    return lu__lock_thread.process;
}

static void the_handler_of_fork_helps_where_the_page_is_refused(void **state) {
    (void)state;
    pthread_t thread;
    int status = 0;
    lu_free(lu_malloc(1)); /* the library is there, and its handler */
    lu__process_begin(put_in_order);
    assert_ptr_equal(take_and_give(), &lu__process_first);
    os_fault_from(1);
    assert_int_equal(pthread_create(&thread, NULL, hold, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    os_fault_none();
    assert_int_equal(lu__process_first, LU_PROCESS_KNOWN);
    pid_t child = fork();
    if (child == 0) {
        alarm(60); /* else it waits for ever */
        _exit(take_and_give() == &lu__process_first && orders == 1 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_handler_of_fork_helps_where_the_page_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
