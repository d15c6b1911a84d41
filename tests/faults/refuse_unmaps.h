/* refuse_unmaps.h - for every_call.c: nothing can be given back; the library goes on, or ends. */
#ifndef REFUSE_UNMAPS_H
#define REFUSE_UNMAPS_H

#include <pthread.h>
#include <sys/wait.h>

#include "check.h"
#include "engine/engine.h"
#include "lucid/lucid.h"
#include "os/process.h"
#include "os_fault.h"

static void *use_large(void *arg) {
    lu_free(lu_malloc(100000));
    return arg;
}

/* The page by which a copy is known, which a second thread makes: each step of it is refused. */
static void refuse_watch(void) {
    for (size_t first = 1; first <= 2; first++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            pthread_t thread;
            use_large(NULL);
            os_fault_only(1u << OS_FAULT_MAP_WIPED);
            os_fault_from(first);
            CHECK_EQ(pthread_create(&thread, NULL, use_large, NULL), 0);
            CHECK_EQ(pthread_join(thread, NULL), 0);
            _exit(lu__process_first == LU_PROCESS_KNOWN ? 0 : 1); /* as without a page */
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    check_passed("a second thread while there is no page to know copies by");
}

/* The library is unloaded while nothing can be unmapped: then it stays, and that is all. */
static void refuse_unload(void) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        void *huge = lu_malloc((size_t)33 << 20), *zero = lu_malloc(0);
        CHECK(huge != NULL && zero != NULL && lu_malloc(100) != NULL);
        lu_free(huge);
        os_fault_only(1u << OS_FAULT_UNMAP);
        os_fault_from(1);
        lu__engine_unload();
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    check_passed("unloaded while nothing can be unmapped");
}

static void refuse_in_children(void) {
    refuse_watch();
    refuse_unload();
}

/* Structures of ended heaps, alone in their pages and between others: the pages stay, or go. */
static void refuse_structures(void) {
    static lu_heap_t *heaps[200];
    for (size_t round = 0; round < 2; round++) {
        for (size_t i = 0; i < CHECK_COUNT_OF(heaps); i++) {
            heaps[i] = lu_heap_create(LU_HEAP_SHARED);
            CHECK(heaps[i] != NULL);
        }
        os_fault_only(1u << OS_FAULT_PURGE);
        os_fault_from(1);
        for (size_t i = 0; i < CHECK_COUNT_OF(heaps); i++) {
            if (i % 25 != 0) lu_heap_destroy(heaps[i]);
        }
        (void)lu_purge();
        os_fault_none();
        for (size_t i = 0; i < CHECK_COUNT_OF(heaps); i += 25) lu_heap_destroy(heaps[i]);
        (void)lu_purge();
    }
    check_passed("pages of ended heaps cannot go back");
}

/* The top of a region comes down, and with it what was mapped in advance above; or it cannot. */
static void refuse_unmaps(void) {
    refuse_structures();
    for (size_t first = 1; first <= 12; first++) {
        void *large = lu_malloc(30 * CHECK_MIB);
        /* The first of these leaves something in advance. */
        void *last[2] = {lu_malloc(300000), lu_malloc(300000)};
        CHECK(large != NULL && last[0] != NULL && last[1] != NULL);
        os_fault_only(1u << OS_FAULT_UNMAP);
        os_fault_from(first);
        lu_free(last[1]);
        lu_free(last[0]);
        (void)lu_purge();
        os_fault_none();
        lu_free(large);
        (void)lu_purge();
    }
    check_passed("every step of giving addresses back refused");
}

#endif
