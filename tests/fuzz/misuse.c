/*
 * misuse.c - the mistakes of programs, each with the report that must come, once.
 *
 * The handler tells the library to go on, so a free with a wrong size or alignment, or to the wrong
 * heap, must have freed the block, and any other call that was a mistake must have done nothing:
 * the block is verified afterwards. Blocks that may be of the emergency kind are left out, since
 * for them there is nothing to check by (src/engine/emergency.c). Every other operation must cause
 * no report at all, which the frame checks.
 */
#include "fuzz.h"

static bool on_violation(const lu_violation_t *violation, void *arg) {
    (void)arg;
    fuzz.violations++;
    fuzz.kind = violation->kind;
    return true;
}

void fuzz_misuse_init(void) {
    lu_set_violation_handler(on_violation, NULL);
}

static void expect(lu_violation_kind_t kind) {
    CHECK_EQ(fuzz.violations, 1);
    CHECK_EQ(fuzz.kind, kind);
    CHECK_EQ(errno, FUZZ_ERRNO);
    fuzz.violations = 0;
}

/* At once, so nothing else can have got the memory. What it was is not always known any more. */
static void free_twice(struct slot *slot) {
    void *block = check_hidden(slot->block);
    fuzz_free(slot, fuzz_byte());
    lu_free(block);
    CHECK_THAT(fuzz.violations == 1, "%u reports for a double free of %p", fuzz.violations, block);
    fuzz.violations = 0;
}

/* A size that is too large; smaller ones may be right once a block had no memory to shrink to. */
static void wrong_size(struct slot *slot) {
    size_t size = fuzz_size(), usable = lu_usable_size(slot->block);
    if (slot->alignment != 0 || size <= usable) return;
    lu_free_sized(slot->block, size);
    expect(LU_SIZE_MISMATCH);
    fuzz_leave(slot);
}

/* A block of a heap that one thread is to use at a time stays where it is. */
static void wrong_heap(struct slot *slot) {
    unsigned number = fuzz_byte() % FUZZ_HEAPS;
    if (fuzz.heaps[number] == NULL || (unsigned)slot->heap == number + 1) return;
    lu_heap_free(fuzz.heaps[number], slot->block);
    expect(LU_WRONG_HEAP);
    if (slot->heap == 0 || fuzz.shared[slot->heap - 1]) fuzz_leave(slot);
}

void fuzz_op_misuse(void) {
    static long long nothing[4];
    struct slot *slot = fuzz_slot();
    uint8_t how = fuzz_byte();
    if (slot->block == NULL || fuzz.odd[slot - fuzz.slots]) return;
    size_t usable = lu_usable_size(slot->block);
    if (usable < 2) return; /* nothing is inside */
    unsigned char *inside = slot->block + 1 + fuzz_word() % (usable - 1);
    size_t alignment = ((size_t)slot->block & -(size_t)slot->block) * 2;
    errno = FUZZ_ERRNO;
    switch (how % 8) {
    case 0:
        free_twice(slot);
        return;
    case 1:
        lu_free(check_hidden(inside));
        expect(LU_INTERIOR_POINTER);
        break;
    case 2:
        wrong_size(slot);
        break;
    case 3:
        lu_free(check_hidden(nothing + 1));
        expect(LU_FOREIGN_POINTER);
        break;
    case 4:
        CHECK(lu_realloc(check_hidden(inside), 100) == NULL);
        errno = FUZZ_ERRNO;
        expect(LU_INTERIOR_POINTER);
        break;
    case 5:
        wrong_heap(slot);
        break;
    case 6:
        lu_free_aligned_sized(slot->block, alignment, slot->asked);
        expect(LU_ALIGN_MISMATCH);
        fuzz_leave(slot);
        break;
    default:
        CHECK_EQ(lu_usable_size(check_hidden(inside)), 0);
        expect(LU_INTERIOR_POINTER);
    }
    if (slot->block != NULL) fuzz_verify(slot);
}
