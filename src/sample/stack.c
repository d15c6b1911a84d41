/*
 * stack.c - who called malloc: a stack walk that neither allocates nor locks.
 *
 * Programs are compiled without frame pointers, so the walk goes by the unwind tables that every
 * file has for its C++ exceptions (unwind.c reads them). libgcc's own walk costs a microsecond
 * for a frame; here the rule found for a return address is remembered, and the next walk through
 * the same call takes some twenty instructions for it:
 *
 *     rules[hash of pc]   tag = pc ^ mix(rule) | rule        atomic words, written by anybody
 *
 * Two threads may write an entry at once; one that is torn has no tag that fits, and is not used.
 *
 * Files are found by _dl_find_object (glibc 2.35 and later), which takes no lock and may be called
 * in a signal handler. Without it the walk follows frame pointers.
 *
 * Every word read lies between the stack pointer and the end of the stack: that of a thread is at
 * most where its control block begins, which libc puts there, that of the first thread ends below
 * the strings that the kernel left. On a stack that the program made itself nothing is read beyond
 * the page that the walk begins in. So wrong tables, or those of a file unloaded meanwhile, end in
 * a wrong stack but never in a fault.
 */
#include "sample/stack.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <sys/auxv.h>

#include "os/os.h"
#include "sample/unwind.h"

#define RULES 2048u                /* remembered; a power of two                      */
#define STACK_FIRST (128 * LU_MIB) /* the kernel leaves more room than that below it */
#define STACK_THREAD (16 * LU_MIB)
#define INNER 16 /* frames of lucid that are left out, at most */
#define FRAMES_OF_PLACE 8

/* Reads words of any stack, whatever a sanitizer thinks of them. */
#define UNCHECKED __attribute__((no_sanitize("address", "thread", "undefined")))

#if defined(DLFO_STRUCT_HAS_EH_DBASE)
#pragma weak _dl_find_object
typedef struct dl_find_object found_object;
static bool find_object(uintptr_t pc, found_object *object) {
    return _dl_find_object != NULL && _dl_find_object((void *)pc, object) == 0;
}
#else
typedef struct {
    void *dlfo_map_start, *dlfo_map_end, *dlfo_eh_frame;
    struct link_map *dlfo_link_map;
} found_object;
static bool find_object(uintptr_t pc, found_object *object) {
    (void)pc, (void)object;
    return false;
}
#endif

struct remembered {
    uint64_t tag, rule;
};
static struct remembered rules[RULES];
static bool has_tables;
static uintptr_t own_start, own_end; /* the file that lucid is in; empty if it is the program's */
static uintptr_t strings;            /* of the kernel, above the first thread's stack */

void lu__stack_init(void) {
    found_object object;
    if (strings != 0) return;
    strings = getauxval(AT_EXECFN) & ~(uintptr_t)7;
    if (!find_object((uintptr_t)&lu__stack_init, &object)) return;
    has_tables = true;
    if (object.dlfo_link_map == NULL || object.dlfo_link_map->l_name[0] == '\0') return;
    own_start = (uintptr_t)object.dlfo_map_start;
    own_end = (uintptr_t)object.dlfo_map_end;
}

bool lu__stack_module(uintptr_t address, const char **name, uintptr_t *offset) {
    found_object object;
    if (!find_object(address, &object) || object.dlfo_link_map == NULL) return false;
    *name = object.dlfo_link_map->l_name;
    *offset = address - object.dlfo_link_map->l_addr;
    return true;
}

/* ---------------------------------------------------------------- rules */

/* What is remembered of a rule is one word, never 0. Of frames that are too large nothing is. */
static bool pack(const struct lu__frame_rule *r, uint64_t *out) {
    if (r->cfa_offset < -(1 << 23) || r->cfa_offset >= 1 << 23) return false;
    *out = (uint64_t)((uint32_t)r->cfa_offset & 0xffffff) << 40 |
           (uint64_t)(uint16_t)r->ra_offset << 24 | (uint64_t)(uint16_t)r->fp_offset << 8 |
           (uint64_t)(r->cfa_base | r->deref << 2 | r->fp_place << 3 | r->ra_known << 5 | 1 << 6);
    return true;
}

LU_INLINE struct lu__frame_rule unpack(uint64_t word) {
    return (struct lu__frame_rule){.cfa_offset = (int32_t)((int64_t)word >> 40),
                                   .ra_offset = (int16_t)(word >> 24),
                                   .fp_offset = (int16_t)(word >> 8),
                                   .cfa_base = word & 3,
                                   .deref = word >> 2 & 1,
                                   .fp_place = word >> 3 & 3,
                                   .ra_known = word >> 5 & 1};
}

LU_INLINE uint64_t mix(uint64_t word) {
    return word * 0x9e3779b97f4a7c15u;
}

static LU_COLD bool find_in_tables(uintptr_t pc, struct lu__frame_rule *rule) {
    found_object object;
    return find_object(pc, &object) && object.dlfo_eh_frame != NULL &&
           lu__frame_rule_find(object.dlfo_eh_frame, pc, rule);
}

/* The rule at a return address: that of the call before it, which may be the last instruction of
 * its function. */
LU_INLINE bool find_rule(uintptr_t pc, struct lu__frame_rule *rule) {
    struct remembered *entry = &rules[mix(pc) >> 32 & (RULES - 1)];
    uint64_t word = __atomic_load_n(&entry->rule, __ATOMIC_RELAXED);
    if (LU_LIKELY((__atomic_load_n(&entry->tag, __ATOMIC_RELAXED) ^ mix(word)) == pc)) {
        *rule = unpack(word);
        return true; /* of an entry that was never used: for pc 0 */
    }
    if (!find_in_tables(pc - 1, rule)) return false;
    if (pack(rule, &word)) {
        __atomic_store_n(&entry->rule, word, __ATOMIC_RELAXED);
        __atomic_store_n(&entry->tag, pc ^ mix(word), __ATOMIC_RELAXED);
    }
    return true;
}

/* ---------------------------------------------------------------- the walk */

struct frame {
    uintptr_t pc, sp, fp;
    uintptr_t top; /* no word at or above may be read */
};

static uintptr_t stack_top(uintptr_t sp) {
    uintptr_t thread = (uintptr_t)pthread_self();
    if (thread - sp < STACK_THREAD) return thread & ~(uintptr_t)7;
    if (strings - sp < STACK_FIRST) return strings;
    return (sp | (LU_OS_PAGE - 1)) + 1;
}

UNCHECKED static inline bool load(const struct frame *frame, uintptr_t at, uintptr_t *word) {
    if (at < frame->sp || at >= frame->top || (at & 7) != 0) return false;
    *word = *(const uintptr_t *)at;
    return true;
}

/* Code addresses carry a signature above the address on some processors. */
LU_INLINE uintptr_t code_address(uintptr_t word) {
    return word & (((uintptr_t)1 << 48) - 1);
}

LU_INLINE bool step_by_rule(struct frame *frame, const struct lu__frame_rule *rule) {
    uintptr_t cfa, ra, fp = frame->fp;
    if (!rule->ra_known || rule->cfa_base == CFA_UNKNOWN) return false;
    cfa = (rule->cfa_base == CFA_OF_SP ? frame->sp : frame->fp) + (uintptr_t)rule->cfa_offset;
    if (rule->deref && !load(frame, cfa, &cfa)) return false;
    if (cfa <= frame->sp || cfa > frame->top) return false;
    if (!load(frame, cfa + (uintptr_t)rule->ra_offset, &ra)) return false;
    if (rule->fp_place == FP_AT_CFA && !load(frame, cfa + (uintptr_t)rule->fp_offset, &fp)) fp = 0;
    if (rule->fp_place == FP_AT_FP && !load(frame, fp + (uintptr_t)rule->fp_offset, &fp)) fp = 0;
    if (rule->fp_place == FP_LOST) fp = 0;
    *frame = (struct frame){code_address(ra), cfa, fp, frame->top};
    return true;
}

/* Where there are no tables: the frame pointer points to the caller's, and the return address is
 * behind that. */
static LU_COLD bool step_by_pointer(struct frame *frame) {
    uintptr_t fp, ra;
    if (!load(frame, frame->fp, &fp) || !load(frame, frame->fp + sizeof fp, &ra)) return false;
    *frame = (struct frame){code_address(ra), frame->fp + 2 * sizeof fp, fp, frame->top};
    return true;
}

LU_INLINE bool step(struct frame *frame) {
    struct lu__frame_rule rule;
    if (LU_UNLIKELY(!has_tables)) return step_by_pointer(frame);
    return find_rule(frame->pc, &rule) && step_by_rule(frame, &rule);
}

/* Out of a function that was interrupted anywhere. Where calls leave the return address in a
 * register, `lr`, it is still there if the function has not saved it. */
static LU_COLD bool step_interrupted(struct frame *frame, uintptr_t lr) {
    struct lu__frame_rule rule;
    if (!has_tables) return step_by_pointer(frame);
    if (!find_in_tables(frame->pc, &rule)) return false;
    if (rule.ra_known || lr == 0) return step_by_rule(frame, &rule);
    if (rule.cfa_base != CFA_OF_SP || rule.deref || rule.fp_place != FP_SAME) return false;
    uintptr_t cfa = frame->sp + (uintptr_t)rule.cfa_offset;
    if (cfa < frame->sp || cfa > frame->top) return false;
    frame->pc = code_address(lr);
    frame->sp = cfa;
    return true;
}

unsigned lu__stack_from(const struct lu__registers *from, uintptr_t *frames, unsigned most) {
    struct frame frame = {from->pc, from->sp, from->fp, stack_top(from->sp)};
    unsigned count = 1;
    frames[0] = from->pc;
    if (most == 1 || !step_interrupted(&frame, from->lr)) return count;
    while (frame.pc != 0) {
        frames[count++] = frame.pc;
        if (count == most || !step(&frame)) break;
    }
    return count;
}

LU_NOINLINE unsigned lu__stack_here(uintptr_t *frames, unsigned most) {
    struct frame frame;
#if defined(__x86_64__)
    __asm__ volatile("lea 0(%%rip), %0\n\tmov %%rsp, %1\n\tmov %%rbp, %2"
                     : "=r"(frame.pc), "=r"(frame.sp), "=r"(frame.fp));
#else
    __asm__ volatile("adr %0, .\n\tmov %1, sp\n\tmov %2, x29"
                     : "=r"(frame.pc), "=r"(frame.sp), "=r"(frame.fp));
#endif
    frame.top = stack_top(frame.sp);
    unsigned inner = 0, count = 0;
    while (count < most && step(&frame) && frame.pc != 0) {
        if (count == 0 && inner < INNER && frame.pc - own_start < own_end - own_start) {
            inner++;
        } else {
            frames[count++] = frame.pc;
        }
    }
    return count;
}

struct lu__place lu__stack_place(void) {
    uintptr_t frames[FRAMES_OF_PLACE];
    struct lu__place place = {NULL, 0};
    if (!has_tables) return place; /* what the frame pointer holds is anything */
    bool alone = own_end != 0;
    unsigned count = lu__stack_here(frames, alone ? 1 : FRAMES_OF_PLACE);
    if (alone && count == 1) place = (struct lu__place){(const void *)frames[0], frames[0]};
    for (unsigned i = 0; !alone && i < count; i++) place.mark = mix(place.mark ^ frames[i]) + i;
    return place;
}
