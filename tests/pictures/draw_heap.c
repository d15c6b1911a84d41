/*
 * draw_heap.c - a small heap drawn after each of a few calls, as proof that what is drawn is what
 * is there.
 *
 *     draw_heap json|text
 *
 *     a = alloc(100)     |#######-          1 cell = 16 bytes, the unit of the heap of Kernighan &
 *     free(a)            .........          Ritchie (classic/kr.c), on which this runs
 *
 * After each call the heap is walked block by block into a frame of a document (document.h), its
 * invariants are checked, and at the end the document is printed to memory as plain text. The
 * cells of each strip are counted there by kind, and must add up to the bytes that the heap's own
 * statistics had told after that call. All blocks are multiples of a cell, so they do exactly.
 * The status is 0 if they do, and 1 if not.
 */
#include "frame/frame.h"

#include "classic/classic.h"
#include "document/document.h"

#include <stdlib.h>
#include <string.h>

enum { CELL = 16, STEP_BYTES = 1024, MOST_FRAMES = 12, NAMES = 4 };

/* ------------------------------------------------------------------ the calls ---------------- */

struct call {
    char name;    /* of the block, 'a' to 'd' */
    size_t bytes; /* 0: free it; else alloc, or resize if it lives */
};

static const struct call calls[] = {{'a', 100}, {'b', 200}, {'c', 50},   {'b', 0}, {'d', 64},
                                    {'a', 300}, {'c', 0},   {'d', 1500}, {'a', 0}, {'d', 0}};

_Static_assert(TOOL_COUNT_OF(calls) < MOST_FRAMES, "all frames are printed");

struct test {
    struct lu__classic *heap;
    struct document *document;
    void *blocks[NAMES];
    uint64_t born[NAMES], event;
    struct lu__classic_stats stats[MOST_FRAMES]; /* after each event */
    const char *fault;                           /* NULL as long as all is well */
};

static void list_calls(struct document *document) {
    bool lives[NAMES] = {false};
    document_table(document, "The calls", "event | call");
    for (size_t i = 0; i < TOOL_COUNT_OF(calls); i++) {
        char name = calls[i].name;
        size_t bytes = calls[i].bytes;
        bool *alive = &lives[name - 'a'];
        if (bytes == 0) {
            document_row(document, "%zu | free(%c)", i + 1, name);
        } else if (*alive) {
            document_row(document, "%zu | %c = resize(%c, %zu)", i + 1, name, name, bytes);
        } else {
            document_row(document, "%zu | %c = alloc(%zu)", i + 1, name, bytes);
        }
        *alive = bytes != 0;
    }
}

static void perform(struct test *test, const struct call *call) {
    size_t at = (size_t)(call->name - 'a');
    void **block = &test->blocks[at];
    if (call->bytes == 0) {
        lu__classic_free(test->heap, *block);
        *block = NULL;
        return;
    }
    *block = lu__classic_resize(test->heap, *block, call->bytes);
    if (*block == NULL) tool_die("no memory for %zu bytes", call->bytes);
    test->born[at] = test->event;
}

/* ------------------------------------------------------------------ frames ------------------- */

static bool add_block(void *arg, const struct lu__block *block) {
    static const char *const states[] = {
        [LU_BLOCK_USED] = "used",     [LU_BLOCK_FREE] = "free", [LU_BLOCK_META] = "meta",
        [LU_BLOCK_CACHED] = "cached", [LU_BLOCK_TOP] = "top",
    };
    struct test *test = arg;
    struct document_block drawn = {.start = block->start - test->heap->area.base,
                                   .bytes = block->bytes,
                                   .header = block->header,
                                   .asked = block->asked,
                                   .state = states[block->state]};
    for (size_t i = 0; i < NAMES; i++)
        if (test->blocks[i] == (void *)(block->start + block->header))
            drawn.age = test->event - test->born[i];
    document_block(test->document, &drawn);
    return true;
}

static void add_frame(struct test *test) {
    struct lu__classic_fault fault;
    struct lu__classic_stats *stats = &test->stats[test->event];
    if (!lu__classic_validate(test->heap, &fault)) test->fault = fault.what;
    lu__classic_stats(test->heap, stats);
    document_frame(test->document, test->event, stats->held, stats->asked_bytes);
    lu__classic_walk(test->heap, add_block, test);
}

static struct document *run(struct test *test) {
    struct lu__classic_config config = {.tracked = true, .step_bytes = STEP_BYTES};
    const struct lu__policy *policy = &lu__policy_kr;
    struct document *document = document_create("A heap, drawn after each call");
    test->document = document;
    test->heap = lu__classic_create(policy, &config);
    if (test->heap == NULL) tool_die("no memory for a heap");
    list_calls(document);
    document_heap(document, policy->title, policy->name);
    add_frame(test);
    for (size_t i = 0; i < TOOL_COUNT_OF(calls); i++) {
        test->event = i + 1;
        perform(test, &calls[i]);
        add_frame(test);
    }
    lu__classic_destroy(test->heap);
    return document;
}

/* ------------------------------------------------------------------ what was drawn ----------- */

static size_t count_of(const char *line, const char *kinds) {
    size_t count = 0;
    for (const char *c = line; *c != '\0' && *c != '\n'; c++) count += strchr(kinds, *c) != NULL;
    return count;
}

/* Cells of the strips that follow the line of an event. */
struct cells {
    size_t used, free, all;
};

static struct cells count_cells(const char *text) {
    struct cells cells = {0};
    const char *line = strchr(text, '\n');
    while (line != NULL && strncmp(line, "\n  +0x", 6) == 0) {
        const char *strip = line + 1 + strlen("  +0x");
        strip += strcspn(strip, " ");
        strip += strspn(strip, " "); /* no cell is a blank */
        cells.used += count_of(strip, "|#-");
        cells.free += count_of(strip, "._c");
        cells.all += strcspn(strip, "\n");
        line = strchr(line + 1, '\n');
    }
    return cells;
}

static const char *check_drawing(const struct test *test, const char *text) {
    for (uint64_t event = 0; event <= test->event; event++) {
        const struct lu__classic_stats *stats = &test->stats[event];
        char *title = tool_format("\nevent %zu:", (size_t)event);
        const char *frame = strstr(text, title);
        free(title);
        if (frame == NULL) return "a frame was not drawn";
        struct cells cells = count_cells(frame + 1);
        if (cells.all * CELL != stats->held) return "a strip is not as long as the heap";
        if (cells.used * CELL != stats->used_bytes) return "a strip shows other used blocks";
        if (cells.free * CELL != stats->free_bytes) return "a strip shows other free blocks";
    }
    return NULL;
}

static const char *find_fault(const struct test *test) {
    char *text = NULL;
    size_t length = 0;
    struct output out = {open_memstream(&text, &length), false};
    if (out.to == NULL) tool_die("out of memory");
    document_print(test->document, &out);
    if (fclose(out.to) != 0) tool_die("out of memory");
    const char *fault = test->fault != NULL ? test->fault : check_drawing(test, text);
    free(text);
    return fault;
}

/* ------------------------------------------------------------------ program ------------------ */

int main(int argc, char **argv) {
    bool json = argc == 2 && strcmp(argv[1], "json") == 0;
    if (!json && (argc != 2 || strcmp(argv[1], "text") != 0))
        tool_bad_input("usage: draw_heap json|text");
    struct test test = {0};
    struct document *document = run(&test);
    const char *fault = find_fault(&test);
    struct output out;
    output_open(&out, NULL, false, stdout);
    json_object_set_new(document_json(document), "holds", json_boolean(fault == NULL));
    if (json) {
        output_json(&out, document_json(document));
    } else {
        document_print(document, &out);
        fprintf(out.to, "\n%s\n", fault == NULL ? "The strips add up to what is held." : fault);
    }
    output_close(&out);
    document_destroy(document);
    return fault == NULL ? 0 : 1;
}
