/*
 * make_document.c - writes documents for the tests of this directory.
 *
 *     make_document all|huge|wide|many|full|empty json|text
 *     make_document all|huge|wide|many|full|empty html FILE [--force]
 *
 *     all      every type of section, with figures that are known; two heaps with the same events,
 *              the second in two pieces of addresses, and texts that HTML must not take for its own
 *     huge     heaps, charts and tables of some 10 MB, most of it blocks
 *     wide     one frame of many blocks that cannot be merged state by state
 *     many     the same amounts as many frames of few blocks
 *     full     what must find its room: many series, many columns, long texts, calls
 *     empty    no sections
 */
#include "document/document.h"
#include "frame/frame.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint64_t random_state = 88172645463325252u;

static uint64_t draw(uint64_t below) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % below;
}

/* ------------------------------------------------------------------ heaps -------------------- */

static const char *const states[] = {"used", "free", "cached", "top", "meta"};

static void add_frame(struct document *document, uint64_t event, uint64_t count, uint64_t base) {
    uint64_t held = 0, live = 0, start = base;
    struct document_block *blocks = tool_alloc(count, sizeof(*blocks));
    for (uint64_t i = 0; i < count; i++) {
        struct document_block *block = &blocks[i];
        bool used = i % 2 == 0;
        block->state = i == 5 ? "cached" : i == 7 ? "meta" : i + 1 == count ? "top" : states[i % 2];
        block->start = start;
        block->bytes = 32 + 16 * draw(16);
        block->header = 16;
        block->asked = used && i + 1 != count ? block->bytes - 16 - draw(16) : 0;
        block->age = event > i ? event - i : 0;
        start += block->bytes;
        held += block->bytes;
        live += block->asked;
        if (base != 0 && i == count / 2) start += (uint64_t)1 << 32; /* two pieces */
    }
    document_frame(document, event, held, live);
    for (uint64_t i = 0; i < count; i++) document_block(document, &blocks[i]);
    free(blocks);
}

static void add_heap(struct document *document, const char *name, uint64_t frames, uint64_t blocks,
                     uint64_t base) {
    char *title = tool_format("heap of %s", name);
    document_heap(document, title, name);
    for (uint64_t i = 0; i < frames; i++)
        add_frame(document, 10 * i, blocks < 64 ? blocks + i : blocks, base);
    free(title);
}

/* ------------------------------------------------------------------ charts, tables ----------- */

static void add_chart(struct document *document, const char *title, const char *unit,
                      size_t count) {
    double *x = tool_alloc(count, sizeof(*x)), *y = tool_alloc(count, sizeof(*y));
    for (size_t i = 0; i < count; i++) x[i] = (double)(10 * i);
    document_chart(document, title, "events", title, unit, x, count);
    for (size_t i = 0; i < count; i++) y[i] = i == 2 ? NAN : 4096.0 * (double)(i + 1);
    document_series(document, "held", y, count);
    for (size_t i = 0; i < count; i++) y[i] = 0.5 + 100.0 * (double)i;
    document_series(document, "live", y, count);
    free(y);
    free(x);
}

static void add_space(struct document *document) {
    document_addresses(document, "address space of a process");
    document_part(document, "text", 0x555555554000, 0x1000, "text", "r-x");
    document_part(document, "data", 0x555555555000, 0x800, "data", "rw-");
    document_part(document, "bss", 0x555555555800, 0x800, "bss", "");
    document_part(document, "heap", 0x555555575000, 132 * 1024, "heap", "135,168 bytes");
    document_part(document, "libc.so.6", 0x7ffff7c00000, 0x1f0000, "mapping", "<shared>");
    document_part(document, "stack", 0x7ffffffde000, 0x21000, "stack", "grows down");
    document_part(document, "kernel", 0xffff800000000000, (uint64_t)1 << 47, "kernel", "");
}

static void add_table(struct document *document, unsigned rows) {
    document_table(document, "distance of neighbours", "asked | distance | ratio | remark");
    for (unsigned i = 0; i < rows; i++)
        document_row(document, "%u | %u | %.3f | %s", i, 32 + i / 24 * 16, i / 7.0,
                     i == 3 ? "</script><b>&amp;" : "-");
    document_row(document, "0x10 | 007 | | a short row");
}

static void add_all(struct document *document) {
    document_text(document,
                  "What is expected: the break rises.\nAnd </script><script>alert(1)"
                  "</script> is text, as is <!-- this. %s\n\n    a picture\n      of it",
                  "\xff is no UTF-8");
    document_text(document, "Größe, 大小: words of more than one byte each.");
    add_table(document, 12);
    add_chart(document, "memory", "bytes", 20);
    add_chart(document, "time of a call", "ns", 20);
    add_chart(document, "fragmentation", "ratio", 1);
    add_heap(document, "kr", 9, 12, 0);
    add_heap(document, "dl", 9, 20, 4096);
    document_left_out(document, "%d threads", 3);
    add_space(document);
}

/* Thirteen allocators and what is live, in the middle. */
static void add_many_series(struct document *document) {
    double x[3] = {1, 2, 3}, y[3] = {0};
    document_chart(document, "Held", "events", "memory", "bytes", x, 3);
    for (int i = 0; i < 14; i++) {
        char *name = tool_format("allocator%d", i);
        for (int k = 0; k < 3; k++) y[k] = 1e6 * (i + 1) * (k + 1);
        document_series(document, i == 6 ? "live" : name, y, 3);
        free(name);
    }
}

static void add_full(struct document *document) {
    document_table(
        document, "Figures",
        "allocator | held at most, bytes | resident at most, bytes | utilisation of what "
        "is held | held at the end, bytes | mappings made | system calls for memory");
    for (int i = 0; i < 3; i++)
        document_row(document, "a%d | 2922257 | %d | 2993.35 | 0.25 | 12 | -1234567", i, 1000 * i);
    document_table(document, "Measured", "of | what was measured | holds");
    document_row(document,
                 "pt | malloc(128 KiB), when the heap has not so much left, maps 132 KiB more, and "
                 "the block is 16 bytes past their beginning, 大小 | yes");
    add_many_series(document);
    document_addresses(document, "address space");
    document_part(document, "text", 0x555555554000, 0x1000, "text",
                  "machine code and constants of the program itself; readable, executable, and "
                  "not writable by anybody");
    document_part(document, "kernel", 0xffff800000000000, (uint64_t)1 << 47, "kernel",
                  "the same in every process, and out of reach");
    document_heap(document, "heap of kr", "kr");
    add_frame(document, 5, 12, 0);
    document_frame_call(document, "malloc(%d) = +0x40", 24);
}

static struct document *make(const char *kind) {
    struct document *document = document_create("A document & its <parts>");
    if (strcmp(kind, "all") == 0) {
        add_all(document);
    } else if (strcmp(kind, "huge") == 0) {
        add_heap(document, "first", 32, 3000, 0);
        add_heap(document, "best", 32, 3000, 4096);
        add_chart(document, "memory", "bytes", 150000);
        add_table(document, 60000);
    } else if (strcmp(kind, "wide") == 0) {
        add_heap(document, "first", 1, 300000, 0);
    } else if (strcmp(kind, "many") == 0) {
        add_heap(document, "first", 2000, 100, 0);
        add_heap(document, "best", 2000, 100, 0);
    } else if (strcmp(kind, "full") == 0) {
        add_full(document);
    } else if (strcmp(kind, "empty") != 0) {
        tool_die("no document '%s'", kind);
    }
    return document;
}

int main(int argc, char **argv) {
    if (argc < 3) tool_die("usage: make_document KIND json|text|html [FILE [--force]]");
    struct document *document = make(argv[1]);
    struct output out;
    if (strcmp(argv[2], "html") == 0 && argc > 3) {
        document_write_html(document, argv[3], argc > 4 && strcmp(argv[4], "--force") == 0);
    } else {
        output_open(&out, NULL, false, stdout);
        if (strcmp(argv[2], "json") == 0) {
            output_json(&out, document_json(document));
        } else {
            document_print(document, &out);
        }
        output_close(&out);
    }
    document_destroy(document);
    return 0;
}
