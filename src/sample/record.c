/*
 * record.c - who called: taken where an allocation is sampled, printed where it is told of.
 *
 *       allocated by thread 4711:
 *         #0 0x55d0c0de1193 /usr/bin/prog+0x1193
 *         #1 ...
 *
 * Behind the plus sign stand offsets in the file as addr2line takes them. Nothing allocates, and
 * buffers are small: it may be printed on a small alternate stack.
 */
#include "sample/record.h"

#include <string.h>
#include <unistd.h>

#include "base/format.h"
#include "sample/stack.h"

#define NAME_MOST 256 /* bytes of a file's name, from its end, that are printed */

static __thread int32_t known_id __attribute__((tls_model("initial-exec"))); /* 0: not known yet */

void lu__record_here(struct lu__record *record) {
    if (known_id == 0) known_id = (int32_t)gettid();
    record->thread = known_id;
    record->count = lu__stack_here(record->frames, LU_RECORD_FRAMES);
}

static void print_frame(unsigned number, uintptr_t pc) {
    const char *name;
    char program[NAME_MOST];
    uintptr_t offset;
    if (!lu__stack_module(pc, &name, &offset)) {
        lu__print(STDERR_FILENO, "    #%u %p\n", number, (void *)pc);
        return;
    }
    if (name[0] == '\0') {
        ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
        program[length > 0 ? length : 0] = '\0';
        name = length > 0 ? program : "?";
    }
    size_t length = strlen(name);
    if (length >= NAME_MOST) name += length - NAME_MOST + 1;
    lu__print(STDERR_FILENO, "    #%u %p %s+0x%lx\n", number, (void *)pc, name, offset);
}

void lu__record_print(const char *what, const struct lu__record *record) {
    lu__print(STDERR_FILENO, "  %s by thread %d:\n", what, record->thread);
    for (unsigned i = 0; i < record->count; i++) print_frame(i, record->frames[i]);
}

void lu__record_fork_child(void) {
    known_id = 0;
}
