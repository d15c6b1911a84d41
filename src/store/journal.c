/*
 * journal.c - every operation on a store is atomic, whenever its process is killed.
 *
 * The journal in the header is an undo log. Before a word of the store is changed, its offset and
 * its old content are entered; an operation ends by one store that says that no entry counts:
 *
 *     journal_state   | check, 48 bits | entries that count, 16 bits |
 *     journal[i]      | check, 20 bits | offset of a word |   | what it held |
 *
 *     put(word, new)     1  journal[n] = (offset, old)       and n = n + 1
 *     apply              2  journal_state = n                3  word = new, for all since the last
 *     end                4  journal_state = 0 entries        the instant
 *     recovery           for i = n - 1 ... 0: word[i] = old[i]; then journal_state = 0 entries
 *
 * Why that is enough. The memory is that of a file or of shared pages, which the kernel keeps when
 * a process dies; a process killed between two instructions has done all stores before the first
 * and none after it, and each store here is one aligned word. So at every instant either no entry
 * counts, and the store is as the last operation left it; or n entries count, and every word that
 * was changed since has its old content in the first entry that names it, because 2 comes before 3.
 * Changes that are entered and not applied yet do not exist for anybody: so puts can be collected,
 * and one store of the state is enough for many, as long as no word that was put is read before.
 * All code in blocks.c that reads words that it may have changed applies first. Restoring from the
 * last to the first leaves that oldest content, whatever was restored before: so recovery undoes
 * the operation as a whole, and may itself be killed and begun anew. After 4 the operation is done
 * as a whole. Nothing else in the file is changed before 4, except the bytes of free blocks, which
 * have no meaning apart from the three words that link them: code that takes a block to write to it
 * before 4, as realloc and calloc do, enters those first.
 *
 * The length of a file is the one thing that is not a word. `growing` is set outside the journal
 * before the file is made longer and put to 0 through it together with the new file_bytes: if that
 * is undone, recovery finds `growing` set, cuts the file back to file_bytes and then clears it. So
 * a file that is longer than file_bytes while `growing` is 0 is damaged.
 *
 * A word of the file may be damaged in other ways, and undoing by a damaged journal would do more
 * harm: so the state and the entries have checks, and one that does not fit stops the recovery
 * before it begins. The checks of entries include their number, and old entries are worthless
 * because the state, which is written last, says how many count.
 *
 * Not covered: power failures and crashes of the kernel, after which words reach the disk in any
 * order (lu_store_sync).
 *
 * Each store is a release store, so that the compiler keeps their order; between processes the
 * lock orders them, which is held from the first entry to the end.
 */
#include "os/file.h"
#include "store/store.h"

#include <errno.h>

static void set(uint64_t *word, uint64_t value) {
    lu__store_step();
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
    __atomic_signal_fence(__ATOMIC_SEQ_CST); /* nor do later stores move in front of it */
}

static uint64_t state_of(uint64_t key, unsigned entries) {
    return (lu__store_mix(key + entries) << 16) | entries;
}

static uint64_t where_of(uint64_t key, unsigned number, uint64_t offset, uint64_t old) {
    uint64_t check = lu__store_mix(lu__store_mix(old + key) ^ (offset << 10) ^ number);
    return offset | (check >> 44 << 44);
}

uint64_t lu__store_journal_empty(uint64_t key) {
    return state_of(key, 0);
}

LU_INLINE bool is_waiting(const struct lu_store *store, uint64_t offset) {
    for (unsigned i = store->applied; i < store->entries; i++) {
        if (store->changes[i].offset == offset) return true;
    }
    return false;
}

/* Enter the content of a word, and the value to be written to it. Nothing is written to offset 0,
 * nor a value that the word already has. */
LU_INLINE void enter(struct lu_store *store, uint64_t offset, struct store_change change) {
    LU_ASSERT(!is_waiting(store, offset));
    if (LU_UNLIKELY(store->error != 0)) return;
    struct store_header *header = lu__store_header(store);
    unsigned number = store->entries;
    if (LU_UNLIKELY(number == LU_STORE_JOURNAL || (offset & 7) != 0 ||
                    offset > store->mapped - 8)) {
        LU_ASSERT(false);
        store->error = EOVERFLOW;
        return;
    }
    uint64_t old = lu__store_read(store, offset);
    if (change.offset != 0 && change.value == old) return;
    set(&header->journal[number].old, old);
    set(&header->journal[number].where, where_of(header->key, number, offset, old));
    store->changes[number] = change;
    store->entries = number + 1;
}

void lu__store_note(struct lu_store *store, uint64_t offset) {
    enter(store, offset, (struct store_change){0, 0});
}

void lu__store_put(struct lu_store *store, uint64_t offset, uint64_t value) {
    enter(store, offset, (struct store_change){offset, value});
}

void lu__store_apply(struct lu_store *store) {
    unsigned from = store->applied, to = store->entries;
    if (from == to || LU_UNLIKELY(store->error != 0)) return;
    struct store_header *header = lu__store_header(store);
    set(&header->journal_state, state_of(header->key, to));
    for (unsigned i = from; i < to; i++) {
        struct store_change change = store->changes[i];
        if (change.offset != 0) set(lu__store_word(store, change.offset), change.value);
    }
    store->applied = to;
}

/* The number of entries that count; false if the journal is damaged. */
static bool entries_of(struct lu_store *store, unsigned *out) {
    const struct store_header *header = lu__store_header(store);
    uint64_t state = header->journal_state;
    unsigned entries = (unsigned)(state & 0xffff);
    if (entries > LU_STORE_JOURNAL || state != state_of(header->key, entries)) {
        return lu__store_damage(store, "state of the journal", LU_STORE_OFFSET(journal_state),
                                state, state_of(header->key, entries));
    }
    for (unsigned i = 0; i < entries; i++) {
        uint64_t where = header->journal[i].where;
        uint64_t offset = where & (LU_STORE_MAX - 1);
        uint64_t expected = where_of(header->key, i, offset, header->journal[i].old);
        if (where != expected || (offset & 7) != 0 || offset > store->mapped - 8) {
            return lu__store_damage(store, "journal entry",
                                    LU_STORE_OFFSET(journal) + i * sizeof(struct store_entry),
                                    where, expected);
        }
    }
    *out = entries;
    return true;
}

static bool undo(struct lu_store *store) {
    struct store_header *header = lu__store_header(store);
    unsigned entries = 0;
    if (!entries_of(store, &entries)) return false;
    if (entries == 0) return true;
    for (unsigned i = entries; i-- > 0;) {
        uint64_t offset = header->journal[i].where & (LU_STORE_MAX - 1);
        set(lu__store_word(store, offset), header->journal[i].old);
    }
    set(&header->journal_state, state_of(header->key, 0));
    return true;
}

/* Cut a file that was made longer by an operation that was undone. If the system refuses, it stays
 * longer, and `growing` goes on to say that this is in order; the next one tries again. */
static bool cut(struct lu_store *store) {
    struct store_header *header = lu__store_header(store);
    if (header->growing == 0) return true;
    if (!lu__store_verify_quick(store)) return false;
    lu__store_step();
    struct lu__os_file_info info;
    if (store->fd < 0 || (lu__store_file(store, &info) == 0 &&
                          lu__os_file_resize(store->fd, header->file_bytes) == 0)) {
        set(&header->growing, 0);
    }
    return true;
}

static bool is_given_up(const struct lu_store *store) {
    return __atomic_load_n(&store->state, __ATOMIC_RELAXED) == LU_STORE_LOST;
}

int lu__store_end(struct lu_store *store) {
    struct store_header *header = lu__store_header(store);
    lu__store_apply(store);
    int error = store->error;
    if (LU_LIKELY(error == 0)) {
        if (store->entries > 0) set(&header->journal_state, store->idle);
        return LU_LIKELY(!is_given_up(store)) ? 0 : EINVAL;
    }
    if (is_given_up(store)) return EINVAL;
    /* If undoing fails, the next process to enter finds the journal as it is and reports it. */
    store->error = 0;
    store->fault = NULL;
    if (undo(store)) (void)!cut(store);
    return error;
}

bool lu__store_recover(struct lu_store *store) {
    struct store_header *header = lu__store_header(store);
    bool begun = header->journal_state != state_of(header->key, 0);
    if (!undo(store)) return false;
    if (begun) set(&header->recoveries, header->recoveries + 1);
    return cut(store);
}
