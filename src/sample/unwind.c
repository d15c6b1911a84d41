/*
 * unwind.c - the unwind tables of a loaded file: where a frame keeps what its caller needs.
 *
 * Format: DWARF 5 chapter 6.4 (call frame information), with the changes that the Linux Standard
 * Base makes for .eh_frame and .eh_frame_hdr:
 *
 *     .eh_frame_hdr   sorted pairs: start of a function -> its FDE       found by bisection
 *     .eh_frame       CIE: what functions have in common   FDE: one function, and a small program
 *
 * The program is run up to the instruction in question, for three registers only: the stack
 * pointer, the frame pointer and the return address. What compilers write in practice is
 * understood, with the expressions that they use to realign a stack; at anything else a walk ends.
 *
 * No state, no lock, nothing is read but the tables, within the lengths that they give.
 */
#include "sample/unwind.h"

#include <string.h>

#if defined(__x86_64__)
enum { REGISTER_FP = 6, REGISTER_SP = 7, REGISTER_RA = 16 };
#else
enum { REGISTER_FP = 29, REGISTER_SP = 31, REGISTER_RA = 30 };
#endif

enum { ENCODED_AS_HERE = 0x1b, ENCODED_AS_TABLE = 0x3b, ENCODED_COUNT = 0x03 };
enum { OP_DEREF = 0x06, OP_BREG0 = 0x70, OP_BREG31 = 0x8f };
enum { SAVED = 4 }; /* nesting of remembered states */

/* ---------------------------------------------------------------- reading */

struct reader {
    const uint8_t *at, *end;
    bool overran; /* something went beyond the end */
};

static uint8_t read_u8(struct reader *r) {
    if (r->at < r->end) return *r->at++;
    r->overran = true;
    return 0;
}

static uint64_t read_fixed(struct reader *r, unsigned bytes) {
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++) value |= (uint64_t)read_u8(r) << 8 * i;
    return value;
}

static uint64_t read_leb(struct reader *r, bool with_sign) {
    uint64_t value = 0;
    uint8_t byte = 0x80;
    unsigned shift = 0;
    while ((byte & 0x80) != 0 && !r->overran && shift < 64) {
        byte = read_u8(r);
        value |= (uint64_t)(byte & 0x7f) << shift;
        shift += 7;
    }
    if (with_sign && (byte & 0x40) != 0 && shift < 64) value |= ~(uint64_t)0 << shift;
    return value;
}

static uint64_t read_uleb(struct reader *r) {
    return read_leb(r, false);
}

static int64_t read_sleb(struct reader *r) {
    return (int64_t)read_leb(r, true);
}

static int32_t word_at(const uint8_t *at) {
    int32_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* ---------------------------------------------------------------- which function */

/* The FDE of the last function that begins at or below `pc`, or NULL. */
static const uint8_t *find_fde(const uint8_t *table, uintptr_t pc) {
    if (table[0] != 1 || table[1] != ENCODED_AS_HERE || table[2] != ENCODED_COUNT ||
        table[3] != ENCODED_AS_TABLE) {
        return NULL;
    }
    uint32_t low = 0, high = (uint32_t)word_at(table + 8);
    const uint8_t *rows = table + 12;
    int64_t wanted = (int64_t)(pc - (uintptr_t)table);
    while (low < high) { /* rows below `low` begin at or below, from `high` on above */
        uint32_t middle = low + (high - low) / 2;
        if (word_at(rows + 8 * (size_t)middle) <= wanted) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low == 0 ? NULL : table + word_at(rows + 8 * (size_t)(low - 1) + 4);
}

/* Set up a reader for the entry at `at`, behind its length; false if it has an unusual one. */
static bool open_entry(const uint8_t *at, struct reader *r) {
    uint32_t length = (uint32_t)word_at(at);
    if (length == 0 || length >= 0xfffffff0) return false;
    *r = (struct reader){at + 4, at + 4 + length, false};
    return true;
}

struct common {
    uint64_t code_unit;
    int64_t data_unit;
    bool has_length; /* FDEs have additional data */
};

/* Read a CIE up to its program. */
static bool open_common(const uint8_t *at, struct reader *r, struct common *out) {
    if (!open_entry(at, r) || read_fixed(r, 4) != 0) return false;
    uint8_t version = read_u8(r);
    const char *letters = (const char *)r->at;
    while (read_u8(r) != 0) continue;
    out->code_unit = read_uleb(r);
    out->data_unit = read_sleb(r);
    uint64_t return_register = version == 1 ? read_u8(r) : read_uleb(r);
    uint8_t encoding = 0;
    out->has_length = *letters == 'z';
    if (r->overran || return_register != REGISTER_RA) return false;
    if (out->has_length) {
        uint64_t length = read_uleb(r);
        if (length > (uint64_t)(r->end - r->at)) return false;
        const uint8_t *program = r->at + length;
        for (letters++; *letters != '\0'; letters++) {
            if (*letters == 'R') {
                encoding = read_u8(r);
            } else if (*letters == 'L') {
                (void)read_u8(r);
            } else if (*letters == 'P') {
                uint8_t kind = read_u8(r) & 7;
                (void)read_fixed(r, kind == 2 ? 2 : kind == 3 ? 4 : 8);
            } else {
                return false; /* 'S', the frame of a signal handler, among others */
            }
        }
        r->at = program;
    }
    return encoding == ENCODED_AS_HERE;
}

/* ---------------------------------------------------------------- the program */

struct machine {
    struct lu__frame_rule now, initial, saved[SAVED];
    unsigned depth;
    struct common common;
    uint64_t location, wanted; /* bytes from the function's start */
};

static void set_cfa_base(struct lu__frame_rule *rule, uint64_t number) {
    rule->cfa_base = number == REGISTER_SP   ? CFA_OF_SP
                     : number == REGISTER_FP ? CFA_OF_FP
                                             : CFA_UNKNOWN;
    rule->deref = 0;
}

static void set_cfa_offset(struct lu__frame_rule *rule, int64_t offset) {
    rule->cfa_offset = (int32_t)offset;
    if (rule->cfa_offset != offset) rule->cfa_base = CFA_UNKNOWN;
}

/* Register `number` is kept at `offset` from the CFA. */
static void set_saved(struct lu__frame_rule *rule, uint64_t number, int64_t offset) {
    bool fits = offset == (int16_t)offset;
    if (number == REGISTER_RA) {
        rule->ra_known = fits;
        rule->ra_offset = (int16_t)offset;
    } else if (number == REGISTER_FP) {
        rule->fp_place = fits ? FP_AT_CFA : FP_LOST;
        rule->fp_offset = (int16_t)offset;
    }
}

static void set_lost(struct lu__frame_rule *rule, uint64_t number) {
    if (number == REGISTER_RA) rule->ra_known = 0;
    if (number == REGISTER_FP) rule->fp_place = FP_LOST;
}

static void set_same(struct lu__frame_rule *rule, uint64_t number) {
    if (number == REGISTER_RA) rule->ra_known = 0;
    if (number == REGISTER_FP) rule->fp_place = FP_SAME;
}

static void restore(struct machine *m, uint64_t number) {
    if (number == REGISTER_RA) {
        m->now.ra_known = m->initial.ra_known;
        m->now.ra_offset = m->initial.ra_offset;
    } else if (number == REGISTER_FP) {
        m->now.fp_place = m->initial.fp_place;
        m->now.fp_offset = m->initial.fp_offset;
    }
}

/* An expression of the form "register + offset", or the word there. False: it is another. */
static bool read_expression(struct reader *r, uint64_t *number, int64_t *offset, bool *deref) {
    uint64_t length = read_uleb(r);
    if (length > (uint64_t)(r->end - r->at)) return false;
    struct reader inner = {r->at, r->at + length, false};
    r->at += length;
    uint8_t op = read_u8(&inner);
    if (op < OP_BREG0 || op > OP_BREG31) return false;
    *number = op - OP_BREG0;
    *offset = read_sleb(&inner);
    *deref = inner.at < inner.end && read_u8(&inner) == OP_DEREF;
    return !inner.overran && inner.at == inner.end;
}

static void cfa_expression(struct machine *m, struct reader *r) {
    uint64_t number;
    int64_t offset;
    bool deref;
    m->now.cfa_base = CFA_UNKNOWN;
    if (!read_expression(r, &number, &offset, &deref)) return;
    set_cfa_base(&m->now, number);
    set_cfa_offset(&m->now, offset);
    m->now.deref = deref;
}

static void register_expression(struct machine *m, struct reader *r) {
    uint64_t of = read_uleb(r), number;
    int64_t offset;
    bool deref;
    set_lost(&m->now, of);
    if (!read_expression(r, &number, &offset, &deref) || of != REGISTER_FP) return;
    if (deref || number != REGISTER_FP || offset != (int16_t)offset) return;
    m->now.fp_place = FP_AT_FP;
    m->now.fp_offset = (int16_t)offset;
}

/* The instructions without an operand in their first byte, but those that move the location. False:
 * unknown, or senseless. */
static bool run_one(struct machine *m, struct reader *r, uint8_t op) {
    uint64_t number;
    const int64_t unit = m->common.data_unit;
    switch (op) {
    case 0x00: /* nop */
        return true;
    case 0x05: /* offset_extended */
        number = read_uleb(r);
        set_saved(&m->now, number, (int64_t)read_uleb(r) * unit);
        return true;
    case 0x11: /* offset_extended_sf */
        number = read_uleb(r);
        set_saved(&m->now, number, read_sleb(r) * unit);
        return true;
    case 0x06: /* restore_extended */
        restore(m, read_uleb(r));
        return true;
    case 0x07: /* undefined */
        set_lost(&m->now, read_uleb(r));
        return true;
    case 0x08: /* same_value */
        set_same(&m->now, read_uleb(r));
        return true;
    case 0x09: /* register */
        set_lost(&m->now, read_uleb(r));
        (void)read_uleb(r);
        return true;
    case 0x0a: /* remember_state */
        if (m->depth == SAVED) return false;
        m->saved[m->depth++] = m->now;
        return true;
    case 0x0b: /* restore_state */
        if (m->depth == 0) return false;
        m->now = m->saved[--m->depth];
        return true;
    case 0x0c: /* def_cfa */
        set_cfa_base(&m->now, read_uleb(r));
        set_cfa_offset(&m->now, (int64_t)read_uleb(r));
        return true;
    case 0x12: /* def_cfa_sf */
        set_cfa_base(&m->now, read_uleb(r));
        set_cfa_offset(&m->now, read_sleb(r) * unit);
        return true;
    case 0x0d: /* def_cfa_register */
        set_cfa_base(&m->now, read_uleb(r));
        return true;
    case 0x0e: /* def_cfa_offset */
        set_cfa_offset(&m->now, (int64_t)read_uleb(r));
        return true;
    case 0x13: /* def_cfa_offset_sf */
        set_cfa_offset(&m->now, read_sleb(r) * unit);
        return true;
    case 0x0f: /* def_cfa_expression */
        cfa_expression(m, r);
        return true;
    case 0x10: /* expression */
        register_expression(m, r);
        return true;
    case 0x2d: /* negate_ra_state: the return address is signed from here on, or no longer */
        return true;
    case 0x2e: /* GNU_args_size */
        (void)read_uleb(r);
        return true;
    default:
        return false;
    }
}

/* Run until the location passes the wanted one. */
static bool run(struct machine *m, struct reader *r) {
    while (r->at < r->end && !r->overran) {
        uint8_t byte = read_u8(r), low = byte & 0x3f;
        uint64_t advance = 0;
        switch (byte >> 6) {
        case 1: /* advance_loc */
            advance = low;
            break;
        case 2: /* offset */
            set_saved(&m->now, low, (int64_t)read_uleb(r) * m->common.data_unit);
            continue;
        case 3: /* restore */
            restore(m, low);
            continue;
        default:
            if (byte < 0x02 || byte > 0x04) {
                if (!run_one(m, r, byte)) return false;
                continue;
            }
            advance = read_fixed(r, 1u << (byte - 2)); /* advance_loc1, 2, 4 */
        }
        m->location += advance * m->common.code_unit;
        if (m->location > m->wanted) break;
    }
    return !r->overran;
}

bool lu__frame_rule_find(const void *table, uintptr_t pc, struct lu__frame_rule *rule) {
    const uint8_t *fde = find_fde(table, pc);
    struct reader function, common;
    if (fde == NULL || !open_entry(fde, &function)) return false;
    const uint8_t *here = function.at;
    struct machine m = {.now = {.cfa_base = CFA_UNKNOWN}};
    if (!open_common(here - read_fixed(&function, 4), &common, &m.common)) return false;
    uintptr_t start = (uintptr_t)function.at + (uintptr_t)(intptr_t)word_at(function.at);
    function.at += 4;
    uint64_t length = read_fixed(&function, 4);
    if (pc - start >= length) return false;
    if (m.common.has_length) {
        uint64_t skip = read_uleb(&function);
        if (skip > (uint64_t)(function.end - function.at)) return false;
        function.at += skip;
    }
    if (!run(&m, &common)) return false;
    m.initial = m.now;
    m.location = 0;
    m.wanted = pc - start;
    if (!run(&m, &function)) return false;
    *rule = m.now;
    return true;
}
