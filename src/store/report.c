/*
 * report.c - descriptions of what is wrong with a store.
 *
 * A fault is filled in where the contradiction is seen, in the caller's structure, without
 * allocating. The text names what was looked at, the byte of the file, what was found and what was
 * expected:
 *
 *     block word at offset 12296: found 0x20, expected 0x3d91e00000000021
 *
 * The first contradiction of an operation stays: what is seen after it may be its consequence.
 */
#include "base/format.h"
#include "store/store.h"

#include <errno.h>

int lu__store_fault(lu_store_fault_t *fault, lu_store_reason_t reason, int error, const char *what,
                    uint64_t offset, uint64_t found, uint64_t expected) {
    if (fault == NULL) return error;
    struct lu__text text;
    lu__text_init(&text, fault->text, sizeof fault->text);
    lu__text_add(&text, "%s", what);
    bool compared = found != LU_STORE_WITHOUT;
    bool bytes = reason == LU_STORE_TRUNCATED || reason == LU_STORE_SIZE ||
                 reason == LU_STORE_LIMIT;
    if (reason == LU_STORE_SYSTEM) {
        lu__text_add(&text, ": errno %d", error);
    } else if (compared && bytes) {
        lu__text_add(&text, ": found %lu bytes, expected %lu", (unsigned long)found,
                     (unsigned long)expected);
    } else if (compared) {
        lu__text_add(&text, " at offset %lu: found 0x%lx, expected 0x%lx", (unsigned long)offset,
                     (unsigned long)found, (unsigned long)expected);
    }
    fault->reason = reason;
    fault->error = error;
    fault->offset = offset;
    fault->found = compared ? found : 0;
    fault->expected = compared ? expected : 0;
    return error;
}

bool lu__store_damage(struct lu_store *store, const char *what, uint64_t offset, uint64_t found,
                      uint64_t expected) {
    if (store->error != 0) return false;
    store->error = lu__store_fault(store->fault, LU_STORE_DAMAGED, EUCLEAN, what, offset, found,
                                   expected);
    return false;
}
