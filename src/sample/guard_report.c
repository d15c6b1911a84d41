/*
 * guard_report.c - faults in the pool of guarded blocks: the signal handler, and the report.
 *
 *     lucid: write(0x7f1200403000): access beyond the block: block 0x7f1200402f9c of 100 bytes
 *       write 1 byte beyond its end by thread 4711:
 *         #0 0x55d0c0de1193 /usr/bin/prog+0x1193
 *         #1 ...
 *       allocated by thread 4711:
 *         #0 ...
 *       freed by thread 4712:              only if it was
 *         #0 ...
 *
 * The first line is that of every violation (base/violation.c), and the program's handler is asked
 * first as for every violation. #0 of what faulted is the instruction, all other numbers are return
 * addresses; behind the plus sign stand offsets as addr2line takes them. docs/HARDENING.md has the
 * grammar.
 *
 * The handler of SIGSEGV is installed at the first sampled allocation, and looked after at every
 * eighth: where the program has installed its own meanwhile, ours goes in front of it again,
 * with its flags and mask, and calls it for what is not ours and after every report. Two actions
 * are kept for that:
 *
 *     later   what was installed when ours was last put in front; called from ours
 *     first   what was there before ours was there at all
 *
 * A program that keeps what sigaction gave it calls ours from its own handler. That second call for
 * the same signal, deeper on the stack, goes on to `first`, so that they do not call each other for
 * ever.
 *
 * After a report the default action makes the access again, without a handler: so the process ends,
 * and its core shows it, as if nothing had been between. If the report says to go on (the program's
 * violation handler, abort:0), the page is opened and the access goes through.
 *
 * Written for a small alternate stack: no large buffers. Nothing allocates. watch_lock guards
 * changes of the actions, is tried and never waited for.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/format.h"
#include "base/options.h"
#include "base/violation.h"
#include "sample/guard.h"
#include "sample/stack.h"
#include "os/lock.h"
#include "os/os.h"

static struct lu__lock watch_lock = LU_LOCK_INIT(LU_RANK_LEAF);
static struct sigaction first, later; /* written under watch_lock */
static bool installed;

/* The signal that this thread is handing on, to tell a second call for it from the next signal. */
struct handing_on {
    const void *info, *frame;
};
static __thread struct handing_on handing_on __attribute__((tls_model("initial-exec")));

/* ---------------------------------------------------------------- what is printed */

struct report {
    const struct guard_slot *slot; /* NULL: there is no block to tell of */
    const char *what;
    struct lu__record by;
};

static void print_report(const void *arg) {
    const struct report *report = arg;
    const struct guard_slot *slot = report->slot;
    lu__record_print(report->what, &report->by);
    if (slot == NULL) return;
    lu__record_print("allocated", &slot->allocated);
    if (__atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) == GUARD_FREED) {
        lu__record_print("freed", &slot->freed);
    }
}

/* "WHAT N bytes before its start", "WHAT N bytes beyond its end", "WHAT at its byte N" */
static void describe(char *text, size_t text_bytes, const char *what, uintptr_t at,
                     const struct guard_slot *slot) {
    struct lu__text out;
    uintptr_t end = slot->block + slot->size;
    size_t count = at < slot->block ? slot->block - at : at - end + 1;
    lu__text_init(&out, text, text_bytes);
    lu__text_add(&out, "%s", what);
    if (at >= slot->block && at < end) {
        lu__text_add(&out, " at its byte %zu", at - slot->block);
    } else {
        lu__text_add(&out, " %zu byte%s %s", count, count == 1 ? "" : "s",
                     at < slot->block ? "before its start" : "beyond its end");
    }
}

void lu__guard_misuse(lu_violation_kind_t kind, const char *call, const void *pointer,
                      const struct guard_slot *slot, const char *what) {
    char text[80];
    struct report report = {.slot = slot, .what = what};
    lu__record_here(&report.by);
    if (slot != NULL && (uintptr_t)pointer != slot->block) {
        describe(text, sizeof text, what, (uintptr_t)pointer, slot);
        report.what = text;
    }
    lu__violation_with(kind, call, pointer, slot != NULL ? (void *)slot->block : NULL,
                       slot != NULL ? slot->size : 0, print_report, &report);
}

/* ---------------------------------------------------------------- which block */

/* The used slot that is nearest to `number`, in steps of `step`; NULL: none. */
static const struct guard_slot *next_used(size_t number, size_t step) {
    const struct guard_slot *slot;
    while ((slot = lu__guard_slot(number)) != NULL) {
        if (__atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) != GUARD_UNUSED) break;
        number += step;
    }
    return slot;
}

/* Of the blocks on both sides of an inaccessible place `at`, slot `above` and those behind it and
 * those before, the nearest. */
static const struct guard_slot *nearest(size_t above, uintptr_t at) {
    const struct guard_slot *up = next_used(above, 1), *down = next_used(above - 1, SIZE_MAX);
    if (up == NULL || down == NULL) return up != NULL ? up : down;
    return at - (down->block + down->size) < up->block - at ? down : up;
}

/* The block that a fault at `at` is about, and in *kind how; NULL if it is about none. */
static const struct guard_slot *find_block(uintptr_t at, lu_violation_kind_t *kind) {
    size_t page = (at - lu__guard.base) / LU_OS_PAGE;
    const struct guard_slot *slot = page % 2 == 1 ? lu__guard_slot(page / 2) : NULL;
    uint32_t state = slot != NULL ? __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) : GUARD_UNUSED;
    *kind = LU_GUARD_USE_AFTER_FREE;
    if (state != GUARD_UNUSED) return state == GUARD_FREED ? slot : NULL;
    slot = nearest(page / 2, at);
    if (slot != NULL) *kind = at < slot->block ? LU_GUARD_UNDERFLOW : LU_GUARD_OVERFLOW;
    return slot;
}

/* ---------------------------------------------------------------- the signal */

struct fault {
    struct lu__registers at;
    const char *call;
};

#if defined(__aarch64__)
/* What the syndrome register says, which the kernel puts among records behind the registers. */
static const char *kind_of_access(const ucontext_t *context) {
    static const uint32_t esr_magic = 0x45535201;
    struct record {
        uint32_t magic, size;
        uint64_t syndrome;
    } record;
    const unsigned char *at = context->uc_mcontext.__reserved;
    const unsigned char *end = at + sizeof context->uc_mcontext.__reserved;
    while ((size_t)(end - at) >= sizeof record) {
        memcpy(&record, at, sizeof record);
        if (record.magic == esr_magic) {
            uint64_t instruction_abort = 0x20, class = record.syndrome >> 26;
            if (class == instruction_abort) return "execute";
            return (record.syndrome & 64) != 0 ? "write" : "read";
        }
        if (record.magic == 0 || record.size < 8 || record.size > (size_t)(end - at)) break;
        at += record.size;
    }
    return "access"; /* an emulator that leaves it out */
}
#endif

static struct fault read_context(const void *context) {
    const ucontext_t *c = context;
#if defined(__x86_64__)
    unsigned long error = (unsigned long)c->uc_mcontext.gregs[REG_ERR];
    const char *call = (error & 16) != 0 ? "execute" : (error & 2) != 0 ? "write" : "read";
    const greg_t *registers = c->uc_mcontext.gregs;
    return (struct fault){{.pc = (uintptr_t)registers[REG_RIP],
                           .sp = (uintptr_t)registers[REG_RSP],
                           .fp = (uintptr_t)registers[REG_RBP]},
                          call};
#else
    return (struct fault){{.pc = (uintptr_t)c->uc_mcontext.pc,
                           .sp = (uintptr_t)c->uc_mcontext.sp,
                           .fp = (uintptr_t)c->uc_mcontext.regs[29],
                           .lr = (uintptr_t)c->uc_mcontext.regs[30]},
                          kind_of_access(c)};
#endif
}

/* Report the fault at `at` in the pool; true if the access was made possible. */
static bool report_fault(uintptr_t at, const void *context) {
    lu_violation_kind_t kind;
    const struct guard_slot *slot = find_block(at, &kind);
    if (slot == NULL) return false;
    struct fault fault = read_context(context);
    char text[80];
    struct report report = {.slot = slot, .what = text};
    report.by.thread = (int32_t)gettid();
    report.by.count = lu__stack_from(&fault.at, report.by.frames, LU_RECORD_FRAMES);
    describe(text, sizeof text, fault.call, at, slot);
    return lu__violation_told(kind, fault.call, (void *)at, (void *)slot->block, slot->size,
                              print_report, &report, (const void *)fault.at.pc) &&
           lu__os_commit((void *)lu__align_down(at, LU_OS_PAGE), LU_OS_PAGE) == 0;
}

/* What would have happened without us. A signal that the access raised will be raised again by it,
 * one that was sent is sent again. */
static void do_default(int signal, const siginfo_t *info, bool ignore) {
    if (ignore && info->si_code <= 0) return;
    struct sigaction action = {.sa_handler = SIG_DFL};
    (void)sigaction(signal, &action, NULL);
    if (info->si_code <= 0) (void)pthread_kill(pthread_self(), signal); /* once we return */
}

static void hand_on(struct sigaction *to, int signal, siginfo_t *info, void *context) {
    struct sigaction action = *to;
    if (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN) {
        do_default(signal, info, action.sa_handler == SIG_IGN);
        return;
    }
    if ((action.sa_flags & (int)SA_RESETHAND) != 0) to->sa_handler = SIG_DFL;
    if ((action.sa_flags & SA_SIGINFO) != 0) {
        action.sa_sigaction(signal, info, context);
    } else {
        action.sa_handler(signal);
    }
}

static void on_fault(int signal, siginfo_t *info, void *context) {
    int saved = errno;
    const void *frame = __builtin_frame_address(0);
    struct handing_on outer = handing_on;
    bool again = outer.info == info && (uintptr_t)frame < (uintptr_t)outer.frame;
    if (!again && info->si_code > 0 && lu__guard_contains(info->si_addr) &&
        report_fault((uintptr_t)info->si_addr, context)) {
        errno = saved;
        return;
    }
    handing_on = (struct handing_on){info, frame};
    hand_on(again ? &first : &later, signal, info, context);
    handing_on = outer;
    errno = saved;
}

static bool is_ours(const struct sigaction *action) {
    return (action->sa_flags & SA_SIGINFO) != 0 && action->sa_sigaction == on_fault;
}

void lu__guard_watch(void) {
    struct sigaction now;
    if (sigaction(SIGSEGV, NULL, &now) != 0 || is_ours(&now)) return;
    if (!lu__lock_try(&watch_lock)) return; /* somebody is at it */
    struct sigaction ours = now;
    ours.sa_sigaction = on_fault;
    ours.sa_flags = (now.sa_flags & ~(int)SA_RESETHAND) | SA_SIGINFO | SA_ONSTACK;
    if (!installed) first = now;
    later = now;
    installed = true;
    (void)sigaction(SIGSEGV, &ours, NULL);
    lu__lock_release(&watch_lock);
}

void lu__guard_watch_fork_child(void) {
    (void)lu__lock_fork_child(&watch_lock);
}

void lu__guard_unwatch(void) {
    struct sigaction now;
    if (installed && sigaction(SIGSEGV, NULL, &now) == 0 && is_ours(&now))
        (void)sigaction(SIGSEGV, &later, NULL);
}
