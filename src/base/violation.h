/* violation.h - misuse by the program: one line, then the handler or abort. */
#ifndef LU_VIOLATION_H
#define LU_VIOLATION_H

#include "base/base.h"
#include "lucid/lucid.h"

/* Report a violation. Format of the line:
 *   lucid: CALL(0xPOINTER): KIND[: block 0xBLOCK[ of N bytes]][, N times[ at 0xPLACE]]
 * KIND is one of: double free | pointer not from lucid | wild pointer | interior pointer |
 * corrupt free list | size mismatch | alignment mismatch | wrong heap | write after free |
 * overflow | array and plain delete mixed | access beyond the block | access before the block |
 * use after free.
 * The last part is present from the second violation of this kind at one place on; the place is the
 * return address of the program's call. Where the program goes on, only the tenth of these, the
 * hundredth and so on are printed.
 * `block` is NULL and `block_bytes` 0 where unknown. Returns if the handler or
 * LUCID_OPTIONS=abort:0 says to go on; else aborts. Never allocates, keeps errno. While the thread
 * is inside (os/lock.h), the function returns at once and the report is made when the thread
 * leaves; violations beyond LU_VIOLATIONS_KEPT are then not reported. */
LU_COLD void lu__violation(lu_violation_kind_t kind, const char *call, const void *pointer,
                           const void *block, size_t block_bytes);

/* The same, with more lines: more(arg) prints them after the first, if that is printed. */
typedef void lu__violation_more_fn(const void *arg);
LU_COLD void lu__violation_with(lu_violation_kind_t kind, const char *call, const void *pointer,
                                const void *block, size_t block_bytes, lu__violation_more_fn *more,
                                const void *arg);
/* The same without the abort: true says to go on. `place` is where the program did it; NULL stands
 * for the call that it is in. */
LU_COLD bool lu__violation_told(lu_violation_kind_t kind, const char *call, const void *pointer,
                                const void *block, size_t block_bytes, lu__violation_more_fn *more,
                                const void *arg, const void *place);

#define LU_VIOLATIONS_KEPT 4u
/* The thread has left: report what was found inside. */
LU_COLD void lu__violation_tell_kept(void);

/* Two functions of higher layers, set once at load: one finds the place of the program's call, by a
 * walk of the stack; the other says whether the thread is inside, so that it will call
 * lu__violation_tell_kept when it leaves. Until they are set no place is known, and everything is
 * reported at once. */
struct lu__place {
    const void *address; /* NULL: unknown                                  */
    uint64_t mark;       /* tells places apart, as far as that is possible */
};
typedef struct lu__place lu__place_fn(void);
void lu__violation_init(lu__place_fn *find, bool (*tell_later)(void));

/* fork(2): called in the child, by the one thread that it has. */
void lu__violation_fork_child(void);

/* lu_set_violation_handler (lucid.h) is defined in violation.c. */
#endif
