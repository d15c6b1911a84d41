/*
 * store.h - heaps over files and shared memory: what the files of this layer share.
 *
 *     file   | header, 8 KiB | 8 unused | block | block | ... | block | end mark | 64 KiB multiple
 *                                       ^ LU_STORE_FIRST                ^ file_bytes - 8
 *
 *     block  | word | usable bytes ........................................ |  in use
 *            | word | next | previous | ............................ | size |  free, at least 32
 *            ^ at     ^ at + 8: aligned to 16, what the program gets as a handle
 *
 *     word   | check, 20 bits | size / 16, 40 bits | 0 | 0 | previous block is free | in use |
 *
 * Everything is an offset from the start of the file. A block's word proves itself: its check is a
 * hash of the rest, of its offset and of the file's key, which distinguishes a live block from a
 * pointer into a block, a freed block and a damaged word. Free blocks never touch, are listed by
 * size class, and end in their size, so that the next block finds their start. The end mark is the
 * word of a block of no bytes that is in use.
 *
 * All of it is changed under the lock in the header and through lu__store_put (journal.c), which
 * makes an operation atomic. The memory of a store may be damaged, and any process may write to it,
 * so every value that is read from it is checked before it is used; a contradiction ends the
 * operation by lu__store_damage, which undoes it.
 */
#ifndef LU_STORE_H
#define LU_STORE_H

#include "base/base.h"
#include "lucid/lucid.h"
#include "os/file.h"

#include <pthread.h>

enum {
    LU_STORE_FORMAT = 1, /* version of the format                                       */
    LU_STORE_ORDER = 0x01020304,
    LU_STORE_HEADER = 8192, /* bytes before the blocks                                     */
    LU_STORE_FIRST = LU_STORE_HEADER + 8,
    LU_STORE_GRAIN = 65536, /* files grow by multiples of it: any machine's page           */
    LU_STORE_MIN_BLOCK = 32,
    LU_STORE_WORD = 8,      /* bytes of a block that are not the program's                 */
    LU_STORE_CLASSES = 608, /* sizes up to 2^44                                            */
    LU_STORE_BITMAP = LU_STORE_CLASSES / 64 + 1,
    LU_STORE_JOURNAL = 128, /* words that one operation can change; 60 is the most used   */
    LU_STORE_HINTS = 32,
    LU_STORE_LOST = 3 /* a state: given up in a child, see store.c */
};
#define LU_STORE_MAGIC 0x5453646963756c89u /* as bytes: 89 "lucidST" */
#define LU_STORE_MAX ((uint64_t)1 << 44)

struct store_entry {
    uint64_t where; /* offset of the word, and in the upper 20 bits a check of the entry */
    uint64_t old;   /* what it held                                                      */
};

struct store_header {
    /* Written at creation; `seal` is a hash of it. */
    uint64_t magic;
    uint32_t version, order;
    uint32_t header_bytes, grain_bytes, class_count, journal_max;
    uint64_t address; /* where it was created: where pointers in it are good */
    uint64_t key;
    uint64_t reserved;
    uint64_t seal;
    /* The rest changes under `lock`; the first six through the journal. */
    uint64_t file_bytes, file_check;  /* size of the store; a hash of it        */
    uint64_t root, root_check;        /* the program's handle; a hash of it     */
    uint64_t live_blocks, live_bytes; /* blocks in use, their words included   */
    uint64_t growing; /* not 0: the file may be longer than file_bytes, up to this */
    uint64_t recoveries;
    uint64_t lock_kind; /* whose pthread_mutex_t it is                         */
    union {
        pthread_mutex_t mutex;
        uint64_t room[16];
    } lock;
    uint64_t journal_state; /* number of entries that count, with a check; see journal.c */
    struct store_entry journal[LU_STORE_JOURNAL];
    uint64_t bitmap[LU_STORE_BITMAP]; /* bit set: the class has free blocks */
    uint64_t heads[LU_STORE_CLASSES]; /* the first, or 0                    */
};
_Static_assert(sizeof(struct store_header) <= LU_STORE_HEADER, "blocks begin behind the header");
_Static_assert(offsetof(struct store_header, heads) == 2400, "the format is in docs/STORE.md");
_Static_assert(LU_STORE_HEADER <= LU_STORE_GRAIN, "the smallest file holds the header");

/* A store that is open in this process: a slot of a static table, so a stale pointer is noticed. */
struct lu_store {
    uint32_t state; /* atomic: 0 free, 1 being opened or closed, 2 open, 3 given up */
    int fd;         /* -1: shared memory                                */
    bool is_known;  /* `device` and `inode` are those of the file       */
    uint64_t device, inode;
    pthread_t mover; /* who opens or closes it, while the state is 1     */
    char *base;
    size_t reserved; /* address space at `base`                         */
    size_t mapped;   /* of it, in use; grows under the lock, atomic     */
    unsigned flags;
    bool alone; /* while opening: nobody else has the file open    */
    /* Under the lock: the operation in progress. */
    unsigned entries;               /* journal entries so far                         */
    unsigned applied;               /* of them, whose changes were made               */
    uint64_t idle;                  /* state of the journal between operations        */
    int error;                      /* not 0: the operation has failed, no more is changed */
    lu_store_fault_t *fault;        /* where a contradiction is described, or NULL */
    uint64_t hints[LU_STORE_HINTS]; /* blocks that held what was looked for, by place       */
    struct store_change {
        uint64_t offset, value;
    } changes[LU_STORE_JOURNAL]; /* what belongs to the entries                            */
};

struct store_block {
    uint64_t at, size; /* size 0: the end mark */
    bool used, prev_free;
};

#define LU_STORE_OFFSET(field) ((uint64_t)offsetof(struct store_header, field))

#ifdef LU_STORE_STEPS /* tests: called before every change that others can see */
void lu__store_step(void);
#else
LU_INLINE void lu__store_step(void) {
}
#endif

LU_INLINE struct store_header *lu__store_header(const struct lu_store *store) {
    return (struct store_header *)(void *)store->base;
}

LU_INLINE uint64_t *lu__store_word(const struct lu_store *store, uint64_t offset) {
    return (uint64_t *)(void *)(store->base + offset);
}

LU_INLINE uint64_t lu__store_read(const struct lu_store *store, uint64_t offset) {
    return __atomic_load_n(lu__store_word(store, offset), __ATOMIC_RELAXED);
}

/* Spreads every bit over the whole word: multiply and shift, as the end of SplitMix64. */
LU_INLINE uint64_t lu__store_mix(uint64_t x) {
    x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93u;
    x = (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9u;
    return x ^ (x >> 32);
}

/* journal.c: under the lock. */

/* Begin an operation that changes the store. `fault` may be NULL. */
LU_INLINE void lu__store_begin(struct lu_store *store, lu_store_fault_t *fault) {
    store->entries = store->applied = 0;
    store->error = 0;
    store->fault = fault;
}
/* Change one word, or note its content because it is about to be overwritten; both take effect with
 * the next apply, or the end. Does nothing once the operation has failed. */
void lu__store_put(struct lu_store *store, uint64_t offset, uint64_t value);
void lu__store_note(struct lu_store *store, uint64_t offset);
void lu__store_apply(struct lu_store *store);
/* Make all changes take effect, or undo all of them if the operation has failed. 0 or the failure's
 * errno value. */
int lu__store_end(struct lu_store *store) LU_MUST_CHECK;
/* After the death of a process: undo its operation, and cut a file that was being made longer.
 * False if that is not possible; store->error says why, the fault too. */
bool lu__store_recover(struct lu_store *store) LU_MUST_CHECK;
/* The state of a journal without entries. */
uint64_t lu__store_journal_empty(uint64_t key);
LU_INLINE bool lu__store_is_recovered(const struct lu_store *store) {
    const struct store_header *header = lu__store_header(store);
    return header->growing == 0 && header->journal_state == store->idle;
}

/* store.c */

/* True with the lock held. Else false, *error says why: EINVAL, EDEADLK, EUCLEAN, ... */
bool lu__store_enter(struct lu_store *store, lu_store_fault_t *fault, int *error) LU_MUST_CHECK;
void lu__store_leave(struct lu_store *store);
/* The lock alone, for one that is being opened: 0, also if its holder died, or an errno value. */
int lu__store_lock(struct lu_store *store) LU_MUST_CHECK;
bool lu__store_is_open(const struct lu_store *store);
/* From now on the store can be used. False: fork interrupted the opening, and this is the child. */
bool lu__store_open(struct lu_store *store) LU_MUST_CHECK;
/* A free slot of the table, being opened; NULL if there is none. */
struct lu_store *lu__store_claim(void);
/* Unmap and close; the slot stays claimed. */
void lu__store_detach(struct lu_store *store);
/* The same, and free the slot. */
void lu__store_drop(struct lu_store *store);
/* 0 if the descriptor of the store still refers to its file. To be called before every use of it:
 * the program may have closed it, and its number may refer to another file. EBADF then, or another
 * errno value. */
int lu__store_file(const struct lu_store *store, struct lu__os_file_info *info) LU_MUST_CHECK;
/* In the child of fork. `alone`: the caller is the thread that was copied. */
void lu__store_fork_child(bool alone);
/* Use the file up to `bytes`, which it has; under the lock. 0 or an errno value. */
int lu__store_map(struct lu_store *store, uint64_t bytes) LU_MUST_CHECK;

/* report.c */

/* Fill a fault in and return `error`; `fault` may be NULL. The text is "WHAT at offset O: found F,
 * expected E", without numbers that have no meaning (WITHOUT). */
#define LU_STORE_WITHOUT UINT64_MAX
int lu__store_fault(lu_store_fault_t *fault, lu_store_reason_t reason, int error, const char *what,
                    uint64_t offset, uint64_t found, uint64_t expected);
/* End the operation with EUCLEAN, describing the contradiction. Returns false. */
bool lu__store_damage(struct lu_store *store, const char *what, uint64_t offset, uint64_t found,
                      uint64_t expected);

/* blocks.c: under the lock. Offsets of blocks are those of their words. */

/* Read the word at `at`. False if there is no block: the check of the word is wrong, or `at` cannot
 * be the offset of one. */
bool lu__store_block(const struct lu_store *store, uint64_t at,
                     struct store_block *out) LU_MUST_CHECK;
/* The same, and a free block with its size at its end. */
bool lu__store_free_block(const struct lu_store *store, uint64_t at,
                          struct store_block *out) LU_MUST_CHECK;
/* The word of such a block. */
uint64_t lu__store_encode(const struct lu_store *store, uint64_t at, uint64_t size, bool used,
                          bool prev_free);
unsigned lu__store_class(uint64_t size);
/* The block in which `offset` lies; `out->at` is `offset` for its word. False if none is found. */
bool lu__store_holder(struct lu_store *store, uint64_t offset,
                      struct store_block *out) LU_MUST_CHECK;
/* A block of at least `size`, in use, in *out. False if the operation failed. Whoever
 * writes to its bytes before the end of the operation says so by `filled`. */
bool lu__store_take(struct lu_store *store, uint64_t size, bool filled, struct store_block *out);
/* Free a block. */
void lu__store_give(struct lu_store *store, const struct store_block *block);
/* Resize it where it is. False if that cannot be, with nothing changed unless it failed. */
bool lu__store_resize(struct lu_store *store, const struct store_block *block, uint64_t size);
void lu__store_put_root(struct lu_store *store, uint64_t handle);
uint64_t lu__store_check_of(const struct lu_store *store, uint64_t value);

/* grow.c: make the store larger, so that its last block is free and has `size` bytes. */
bool lu__store_grow(struct lu_store *store, uint64_t size);

/* check.c */

/* Verify the whole store, under the lock; false through lu__store_damage. */
bool lu__store_verify(struct lu_store *store);
/* What never changes, against the size of the file; the lock is not needed. 0 or an errno value. */
int lu__store_verify_constant(const struct store_header *header, uint64_t file_bytes,
                              lu_store_fault_t *fault);
/* What is cheap to verify: the sizes, the end mark, the root. */
bool lu__store_verify_quick(struct lu_store *store);
uint64_t lu__store_seal(const struct store_header *header);

#endif
