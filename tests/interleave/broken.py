#!/usr/bin/python3
"""Write a copy of a source file that is broken on purpose, to show that the explorer finds it.

usage: broken.py SOURCE_TREE NAME OUTPUT

The table has for each NAME the file and, in pairs, what is replaced by what. A text that is not
there exactly once is an error: then the code has changed and the table has to follow.
"""

import pathlib
import sys

ORDERS = "true, __ATOMIC_RELEASE,\n" + 42 * " " + "__ATOMIC_RELAXED));\n"
POST = "    } while (!__atomic_compare_exchange_n(&span->remote, &old, new, " + ORDERS
PUSH = "    } while (!__atomic_compare_exchange_n(&owner->pending, &top, span, " + ORDERS
NEXT = """    struct span *next = __atomic_load_n(&span->pending_next, __ATOMIC_RELAXED);
"""
TAKE = """    uint64_t word = __atomic_exchange_n(&span->remote, 0, __ATOMIC_ACQUIRE);
"""

TABLE = {
    # cache.c: who gives an object out does not look whether it is at hand (as a copy: the header's
    # function is inlined here)
    "given_out_unseen": (
        "src/api/cache.c", "#include <errno.h>\n",
        "#define lu__magazine_pop unseen_pop\n#include <errno.h>\n"
        "static bool unseen_pop(struct lu__magazine *magazine, void **object) {\n"
        "    struct lu__round *round = magazine->top;\n"
        "    if (round == magazine->bottom) return false;\n"
        "    magazine->top = round - 1;\n"
        "    *round->state = LU_SLAB_LIVE;\n"
        "    *object = round->object;\n"
        "    return true;\n"
        "}\n"),
    # ... in the child of fork, what others had at hand is ready, and what the lock guards as it was
    "lists_after_fork": (
        "src/api/cache.c",
        "if (!is_mine && (held || (hands_lost && cache->users != 0)))",
        "if (is_mine && held && hands_lost)"),
    # Not broken: so few looks at the word that the explorer also sees threads go to sleep.
    "lock_spins": ("src/os/lock.c", "SPINS = 100,", "SPINS = 1,"),
    # ... nor are so many runs of a heap noted at once that others never come in between.
    "notes_one": ("src/heap/visit.c", "HOLD = 512,", "HOLD = 1,"),
    # small.c: a walk goes on from a run that has left the heap
    "mark_left_behind": (
        "src/heap/small.c",
        "    if (heap->walk_at == span) heap->walk_at = span->all_next;\n", ""),
    # visit.c: two walks have one mark
    "one_mark_for_two": (
        "src/heap/visit.c", "bool marks = !heap->walking,", "bool marks = true,",
        "HOLD = 512,", "HOLD = 1,"),
    # remote.c: the chain is posted although another thread has posted meanwhile
    "post_without_compare": (
        "src/heap/remote.c", POST,
        "    } while (0);\n    __atomic_store_n(&span->remote, new, __ATOMIC_RELEASE);\n"),
    "push_without_compare": (
        "src/heap/remote.c", PUSH,
        "    } while (0);\n    __atomic_store_n(&owner->pending, span, __ATOMIC_RELEASE);\n"),
    # ... every post pushes the span, not only that which finds the word empty
    "push_always": (
        "src/heap/remote.c", "    if (old == 0) push(span);", "    push(span);"),
    # ... who is about to push a span does not say so
    "push_is_not_noted": (
        "src/heap/remote.c",
        "    struct span *before = lu__remote_pushes(heap, span);\n",
        "    struct span *before = heap->posting;\n"),
    # ... drain reads and clears in two steps
    "drain_in_two_steps": (
        "src/heap/remote.c", TAKE,
        "    uint64_t word = __atomic_load_n(&span->remote, __ATOMIC_ACQUIRE);\n"
        "    __atomic_store_n(&span->remote, 0, __ATOMIC_RELAXED);\n"),
    # ... drain follows the stack after the span may be on it again
    "drain_reads_next_late": (
        "src/heap/remote.c", NEXT, "", TAKE, TAKE + NEXT),
    "pending_taken_in_two_steps": (
        "src/heap/remote.c",
        "__atomic_exchange_n(&heap->pending, NULL, __ATOMIC_ACQUIRE);",
        "__atomic_load_n(&heap->pending, __ATOMIC_ACQUIRE);\n"
        "    __atomic_store_n(&heap->pending, NULL, __ATOMIC_RELAXED);"),
    # pool.c: the pool without its lock
    "acquire_without_lock": (
        "src/heap/pool.c",
        "    lu__lock_acquire(&pool_lock);\n    struct heap *heap = pop_newest(&waiting);\n",
        "    lu__lock_reset(&pool_lock);\n    struct heap *heap = pop_newest(&waiting);\n",
        "    struct heap *heap = pool->first;\n    if (heap == NULL) return NULL;\n"
        "    pool->first = heap->next_pooled;\n",
        "    struct heap *heap = __atomic_load_n(&pool->first, __ATOMIC_RELAXED);\n"
        "    if (heap == NULL) return NULL;\n"
        "    __atomic_store_n(&pool->first, heap->next_pooled, __ATOMIC_RELAXED);\n"),
    # ... a heap is in the pool while it is being swept
    "pool_each_leaves_heaps": (
        "src/heap/pool.c",
        "    struct heap *heap = pop_oldest(&waiting);\n",
        "    struct heap *heap = pop_oldest(&waiting);\n"
        "    if (heap != NULL) push(&waiting, heap);\n",
        "    put_locked(&visited, heap);\n", ""),
    # structures.c: others do not see the heaps of a bank while one of its structures is used again
    "bank_out_of_sight": (
        "src/heap/structures.c",
        "    clear(heap);\n    if (i >= bank->made) LU_SET(bank->made, i + 1);\n",
        "    uint32_t made = LU_MAX(bank->made, i + 1);\n    LU_SET(bank->made, 0);\n"
        "    clear(heap);\n    LU_SET(bank->made, made);\n"),
    # plain.c: the owner of a block may be nobody when it is read once more
    "owner_read_twice": (
        "src/heap/plain.c",
        "    if (kind == LU_HEAP_OF_USER) return free_of_user(",
        "    owner = __atomic_load_n(&span->owner, __ATOMIC_RELAXED);\n"
        "    if (owner->kind == LU_HEAP_OF_USER) return free_of_user("),
    # ... a free that waited for its heap believes what it saw before
    "free_looks_once": (
        "src/heap/plain.c",
        "            if (state == LU_IS_LIVE) lu__small_free(", "            lu__small_free("),
    # ... a large block is freed by all who have found it
    "large_not_taken": (
        "src/engine/free.c", "    if (!lu__large_take(span)) {\n",
        "    if (!lu__large_take(span) && block == NULL) {\n"),
    # thread.c: the heap is in the pool before its lists are in order
    "released_before_in_order": (
        "src/heap/thread.c",
        "    lu__remote_flush(heap);\n",
        "    lu__pool_release(heap);\n    lu__remote_flush(heap);\n",
        "    lu__pool_release(heap);\n    lu__inside_leave();\n",
        "    lu__inside_leave();\n"),
    # user_fast.c: a block goes back to a shared heap that another thread is in
    "shared_free_without_lock": (
        "src/engine/user_fast.c",
        "LU_LIKELY(lu__user_try(owner)) ?", "LU_LIKELY(lu__inside_enter()) ?",
        "    needed_inside(owner, span);\n    (void)lu__user_leave(owner, NULL);\n",
        "    needed_inside(owner, span);\n    lu__inside_leave();\n",
        "return needed_shared(owner, span);\n    (void)lu__user_leave(owner, NULL);\n",
        "return needed_shared(owner, span);\n    lu__inside_leave();\n"),
    # ... who waits for the heap is not woken
    "shared_does_not_wake": (
        "src/engine/user_fast.c", "    if (waits) lu__lock_wake(&heap->lock);\n",
        "    (void)heap, (void)waits;\n"),
    # track.c: a bit is believed that another span may have set
    "bitmap_of_another": (
        "src/heap/track.c",
        "    return __atomic_load_n(&track->span, __ATOMIC_RELAXED) == span &&\n"
        "           __atomic_load_n(&track->life, __ATOMIC_RELAXED) == life;",
        "    (void)life;\n    return true;"),
    # emergency.c: the room is taken in two steps
    "emergency_in_two_steps": (
        "src/engine/emergency.c",
        "__atomic_fetch_add(&region->used, need, __ATOMIC_RELAXED);",
        "__atomic_load_n(&region->used, __ATOMIC_RELAXED);\n"
        "    __atomic_store_n(&region->used, at + need, __ATOMIC_RELAXED);"),
    # lock.c: a sleeper that does not say that it sleeps
    "sleeper_not_marked": (
        "src/os/lock.c",
        "seen != 0 ? seen | 1 : me | 1;", "seen != 0 ? seen : me;",
        "SPINS = 100,", "SPINS = 1,"),
}


def main():
    if len(sys.argv) != 4 or sys.argv[2] not in TABLE:
        sys.exit(__doc__)
    tree, name, output = sys.argv[1:]
    file, *changes = TABLE[name]
    text = (pathlib.Path(tree) / file).read_text(encoding="utf-8")
    for old, new in zip(changes[::2], changes[1::2]):
        if text.count(old) != 1:
            sys.exit(f"broken.py: {name}: {file} has the text {text.count(old)} times:\n{old}")
        text = text.replace(old, new)
    pathlib.Path(output).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
