/*
 * document_html.c - a document as one page that needs nothing else: no network, no other file.
 *
 *     page.html    <style>@@STYLE@@</style> … <script type="application/json">@@DOCUMENT@@</script>
 *                  <script>@@CHART@@</script> <script>@@SCRIPT@@</script>
 *
 * The page holds the document's JSON, at most PAGE_DATA_BYTES of it, and draws everything from
 * there; document_reduce.c makes it fit. In JSON a '<' can only be inside of a text, where it may
 * be written \u003c: so nothing in a document can end the script element or begin another.
 */
#include "document/document.h"

#include "document/document_assets.h"
#include "document/document_parts.h"
#include "frame/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_DATA_BYTES ((size_t)5 * 1000 * 1000)
#define PAGE_LEAST_BYTES ((size_t)20 * 1000)

/* ------------------------------------------------------------------ places ------------------- */

/* As text of an element. */
static void write_escaped(FILE *to, const char *text) {
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '<') {
            fputs("&lt;", to);
        } else if (*c == '&') {
            fputs("&amp;", to);
        } else {
            fputc(*c, to);
        }
    }
}

static char *json_of(const json_t *root, size_t most) {
    json_t *reduced = document_reduced(root, most);
    char *text = json_dumps(reduced, DOCUMENT_DUMP_FLAGS);
    if (text == NULL) tool_die("out of memory");
    json_decref(reduced);
    return text;
}

static size_t escaped_bytes(const char *json) {
    size_t bytes = 0;
    for (const char *c = json; *c != '\0'; c++) bytes += *c == '<' ? strlen("\\u003c") : 1;
    return bytes;
}

static void write_document(FILE *to, const json_t *root) {
    size_t most = PAGE_DATA_BYTES;
    char *text = json_of(root, most);
    while (escaped_bytes(text) > PAGE_DATA_BYTES) { /* full of '<', which take six bytes each */
        free(text);
        if (most <= PAGE_LEAST_BYTES) tool_die("the texts do not fit into one page");
        most -= most / 4;
        text = json_of(root, most);
    }
    for (const char *rest = text; *rest != '\0';) {
        size_t length = strcspn(rest, "<");
        fwrite(rest, 1, length, to);
        rest += length;
        if (*rest == '\0') break;
        fputs("\\u003c", to);
        rest++;
    }
    free(text);
}

static void write_place(FILE *to, const char *place, size_t length, const json_t *root) {
    static const struct {
        const char *name, *text;
    } assets[] = {{"STYLE", document_asset_style},
                  {"CHART", document_asset_chart},
                  {"SCRIPT", document_asset_script}};
    for (size_t i = 0; i < TOOL_COUNT_OF(assets); i++) {
        if (strlen(assets[i].name) != length || strncmp(place, assets[i].name, length) != 0)
            continue;
        fputs(assets[i].text, to);
        return;
    }
    if (strncmp(place, "TITLE", length) == 0) {
        write_escaped(to, document_member(root, "title"));
    } else {
        write_document(to, root);
    }
}

static void write_page(FILE *to, const json_t *root) {
    const char *rest = document_asset_html, *place;
    while ((place = strstr(rest, "@@")) != NULL) {
        const char *end = strstr(place + 2, "@@"); /* places come with both their ends */
        fwrite(rest, 1, (size_t)(place - rest), to);
        write_place(to, place + 2, (size_t)(end - place) - 2, root);
        rest = end + 2;
    }
    fputs(rest, to);
}

/* ------------------------------------------------------------------ file --------------------- */

void document_write_html(struct document *document, const char *path, bool force) {
    int fd = tool_create_file(path, force);
    FILE *to = fdopen(fd, "w");
    if (to == NULL) tool_die("cannot write %s: %s", path, strerror(errno));
    write_page(to, document_json(document));
    bool failed = fflush(to) != 0 || ferror(to);
    failed |= fclose(to) != 0;
    if (failed) tool_die("cannot write all of %s", path);
}
