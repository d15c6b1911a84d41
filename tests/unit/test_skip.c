/* test_skip.c - the list of mappings by address: against a sorted array, counted, and as the child
 * of fork finds it between any two of its stores. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "span/skip.h"
#include "stores.h"

enum { PLACES = 4096, BLOCK = 4096, GAP = 4096 };

static struct lu__skip skip;
static bool there[PLACES];

static uint64_t random_state = 1;

static size_t below(size_t bound) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(random_state >> 33) % bound;
}

/* Addresses are never touched. */
static char *place(size_t i) {
    return (char *)(uintptr_t)(0x10000 + i * (BLOCK + GAP));
}

static void put(size_t i) {
    struct lu__skip_node *node = lu__skip_take(&skip);
    assert_non_null(node);
    node->block = place(i);
    node->bytes = BLOCK;
    lu__skip_insert(&skip, node);
    there[i] = true;
}

static void drop(size_t i) {
    struct lu__skip_node *node = lu__skip_remove(&skip, place(i));
    assert_non_null(node);
    assert_ptr_equal(node->block, place(i));
    lu__skip_give(&skip, node);
    there[i] = false;
}

/* The invariants of skip.c; returns how many nodes there are. */
static size_t sound(const struct lu__skip *list) {
    size_t count = 0;
    for (const struct lu__skip_node *n = list->head[0]; n != NULL; n = n->next[0], count++) {
        if (n->next[0] != NULL && n->next[0]->block <= n->block) return SIZE_MAX;
    }
    for (unsigned level = 1; level < LU_SKIP_LEVELS; level++) {
        const struct lu__skip_node *in = list->head[0];
        for (const struct lu__skip_node *n = list->head[level]; n != NULL; n = n->next[level]) {
            while (in != NULL && in != n) in = in->next[0];
            if (in == NULL) return SIZE_MAX; /* not in the bottom list, or out of order */
        }
    }
    for (const struct lu__skip_node *free = list->unused; free != NULL; free = free->next[0]) {
        for (const struct lu__skip_node *n = list->head[0]; n != NULL; n = n->next[0]) {
            if (n == free) return SIZE_MAX;
        }
    }
    return count;
}

static void look_up(size_t i) {
    size_t floor = i, ceiling = i;
    while (floor != SIZE_MAX && !there[floor]) floor--;
    while (ceiling < PLACES && !there[ceiling]) ceiling++;
    const struct lu__skip_node *node = lu__skip_floor(&skip, (uintptr_t)place(i));
    assert_ptr_equal(node != NULL ? node->block : NULL, floor != SIZE_MAX ? place(floor) : NULL);
    node = lu__skip_floor(&skip, (uintptr_t)place(i) + BLOCK - 1); /* an interior pointer */
    assert_ptr_equal(node != NULL ? node->block : NULL, floor != SIZE_MAX ? place(floor) : NULL);
    node = lu__skip_floor(&skip, (uintptr_t)place(i) - 1); /* one that is foreign */
    if (node != NULL) assert_true(node->block < place(i));
    node = lu__skip_ceiling(&skip, (uintptr_t)place(i));
    assert_ptr_equal(node != NULL ? node->block : NULL, ceiling < PLACES ? place(ceiling) : NULL);
}

static void random_operations(void **state) {
    (void)state;
    size_t count = 0;
    for (size_t step = 0; step < 100000; step++) {
        size_t i = below(step / 20000 % 2 == 0 ? PLACES : PLACES / 64);
        look_up(i);
        if (there[i]) {
            drop(i);
            count--;
        } else if (below(4) != 0) {
            put(i);
            count++;
        } else {
            assert_null(lu__skip_remove(&skip, place(i)));
            assert_null(lu__skip_remove(&skip, place(i) + 16));
        }
        if (step % 5000 == 0) assert_int_equal(sound(&skip), count);
    }
    for (size_t i = 0; i < PLACES; i++) {
        if (there[i]) drop(i);
    }
    assert_int_equal(sound(&skip), 0);
}

/* Steps per lookup, insertion and removal on average, of `count` blocks. */
static double steps_with(size_t count) {
    enum { LOOKS = 3000 };
    struct lu__skip list = {.head = {NULL}};
    for (size_t i = 0; i < count; i++) { /* downwards, as the kernel hands out addresses */
        struct lu__skip_node *node = lu__skip_take(&list);
        assert_non_null(node);
        node->block = place(count - i);
        node->bytes = BLOCK;
        lu__skip_insert(&list, node);
    }
    size_t before = lu__skip_steps;
    for (size_t k = 0; k < LOOKS; k++) {
        char *block = place(1 + below(count));
        assert_ptr_equal(lu__skip_floor(&list, (uintptr_t)block + 1)->block, block);
        struct lu__skip_node *node = lu__skip_remove(&list, block);
        assert_non_null(node);
        lu__skip_insert(&list, node);
    }
    return (double)(lu__skip_steps - before) / (3.0 * LOOKS);
}

static void steps_grow_with_the_logarithm(void **state) {
    (void)state;
    double thousand = steps_with(1000), many = steps_with(100000);
    printf("%.1f steps with 10^3 blocks, %.1f with 10^5\n", thousand, many);
    assert_true(thousand < 16); /* expected: at most 3 on each of log4 n levels */
    assert_true(many < 27);
}

/* ---------------------------------------------------------------- between two stores */

static bool forking;
static size_t forks, expected_low, expected_high;

/* As the child of fork, which goes on with what it finds. */
static void be_child(void) {
    size_t count = sound(&skip);
    if (count != expected_low && count != expected_high) _exit(1);
    for (size_t i = 0; i < 64; i++) {
        const struct lu__skip_node *node = lu__skip_floor(&skip, (uintptr_t)place(i));
        if (node != NULL && node->block == place(i)) {
            if (lu__skip_remove(&skip, place(i)) != node) _exit(2);
            lu__skip_give(&skip, (struct lu__skip_node *)(uintptr_t)node);
        } else {
            struct lu__skip_node *fresh = lu__skip_take(&skip);
            if (fresh == NULL) _exit(3);
            fresh->block = place(i);
            lu__skip_insert(&skip, fresh);
        }
    }
    size_t now = sound(&skip);
    if (now != 64 - count) _exit(4);
    _exit(0);
}

void stores_point(const volatile void *address) {
    if (!forking || address == &lu__skip_steps) return;
    forks++;
    pid_t child = fork();
    if (child == 0) {
        forking = false;
        be_child();
    }
    int status = 1;
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (status != 0) fail_msg("store %zu: status 0x%x", forks, (unsigned)status);
}

static void a_child_goes_on_after_any_store(void **state) {
    (void)state;
    memset(&skip, 0, sizeof skip); /* its nodes are lost */
    memset(there, 0, sizeof there);
    size_t count = 0;
    for (size_t step = 0; step < 120; step++) {
        size_t i = below(64);
        expected_low = there[i] ? count - 1 : count;
        expected_high = expected_low + 1;
        forking = true;
        if (there[i]) {
            drop(i);
            count--;
        } else {
            put(i);
            count++;
        }
        forking = false;
    }
    printf("%zu children\n", forks);
    assert_true(forks > 300);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations),
        cmocka_unit_test(steps_grow_with_the_logarithm),
        cmocka_unit_test(a_child_goes_on_after_any_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
