/*
 * glibc_extras.c - what the glibc manual adds: mallopt, mallinfo, mallinfo2, malloc_info,
 * malloc_stats and malloc_trim.
 *
 * The figures must be those of the malloc under test: they rise and fall with the bytes that this
 * program holds. A preloaded malloc that leaves one of these functions to the C library reports
 * figures of a heap that nobody uses, and is found here.
 */
#include "check.h"
#include "family.h"

/* Bytes in use, with blocks that have a mapping of their own. */
static size_t in_use(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static void figures_follow(size_t size, size_t count, size_t slack_percent) {
    count = count > 1000 ? check_amount(count) : count;
    if (check_quirk("overhead")) slack_percent = 200; /* headers, or rounding to powers of two */
    void **blocks = calloc(count, sizeof(void *));
    CHECK(blocks != NULL);
    size_t before = in_use(), live = size * count;
    for (size_t i = 0; i < count; i++) {
        blocks[i] = malloc(size);
        CHECK(blocks[i] != NULL);
    }
    size_t full = in_use();
    struct mallinfo2 info = mallinfo2();
    CHECK_THAT(full >= before + live, "%zu blocks of %zu bytes: in use %zu before, %zu after",
               count, size, before, full);
    CHECK_THAT(full <= before + live + live * slack_percent / 100 + 64 * CHECK_KIB,
               "%zu blocks of %zu bytes: in use %zu before, %zu after", count, size, before, full);
    CHECK_THAT(info.arena + info.hblkhd >= live, "arena %zu and hblkhd %zu, but %zu live",
               info.arena, info.hblkhd, live);
    CHECK_THAT(info.arena >= info.uordblks, "arena %zu is less than uordblks %zu", info.arena,
               info.uordblks);
    for (size_t i = 0; i < count / 2; i++) free(blocks[i]);
    size_t half = in_use();
    CHECK_THAT(half <= full - live / 2 + live / 50, "in use %zu, half freed: %zu", full, half);
    for (size_t i = count / 2; i < count; i++) free(blocks[i]);
    size_t after = in_use();
    CHECK_THAT(after <= before + live / 50 + 64 * CHECK_KIB,
               "in use %zu before %zu blocks of %zu bytes and %zu after all are free", before,
               count, size, after);
    free(blocks);
}

static void mallinfo_figures(void) {
    figures_follow(24, 200000, 40);
    figures_follow(100, 100000, 20);
    figures_follow(3000, 5000, 15);
    figures_follow(50000, 300, 25);
    figures_follow(100000, 100, 70);
    figures_follow(3000000, 20, 15);
    check_passed("mallinfo2 rises and falls with what the program holds");
    void *block = malloc(40 * CHECK_MIB);
    CHECK(block != NULL);
    struct mallinfo2 large = mallinfo2();
    CHECK_THAT(large.hblkhd + large.uordblks >= 40 * CHECK_MIB, "a block of 40 MiB is not counted");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    struct mallinfo small = mallinfo();
#pragma GCC diagnostic pop
    CHECK_EQ((size_t)small.uordblks + (size_t)small.hblkhd, large.uordblks + large.hblkhd);
    CHECK_EQ(small.arena, large.arena);
    CHECK_EQ(small.hblks, large.hblks);
    free(block);
    check_passed("mallinfo says the same as mallinfo2");
}

/* ------------------------------------------------------------------ malloc_info -------------- */

struct xml {
    const char *at;
    size_t elements;
    unsigned depth;
    const char *names[32];
    size_t lengths[32];
};

static bool is_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
}

static size_t name_length(const char *at) {
    size_t length = 0;
    while (is_name(at[length])) length++;
    return length;
}

static void skip_space(struct xml *xml) {
    xml->at += strspn(xml->at, " \t\r\n");
}

/* The attributes of a start tag, up to its '>' or '/'. */
static void xml_attributes(struct xml *xml) {
    for (skip_space(xml); *xml->at != '>' && *xml->at != '/'; skip_space(xml)) {
        size_t length = name_length(xml->at);
        CHECK_THAT(length > 0, "malloc_info: no attribute name at \"%.30s\"", xml->at);
        xml->at += length;
        CHECK_THAT(*xml->at == '=', "malloc_info: no '=' at \"%.30s\"", xml->at);
        char quote = xml->at[1];
        CHECK_THAT(quote == '"' || quote == '\'', "malloc_info: no quote at \"%.30s\"", xml->at);
        xml->at += 2;
        size_t value = strcspn(xml->at, quote == '"' ? "\"<" : "'<");
        CHECK_THAT(xml->at[value] == quote, "malloc_info: no end of \"%.30s\"", xml->at);
        xml->at += value + 1;
    }
}

static void xml_tag(struct xml *xml) {
    bool closing = xml->at[1] == '/';
    xml->at += closing ? 2 : 1;
    const char *name = xml->at;
    size_t length = name_length(name);
    CHECK_THAT(length > 0, "malloc_info: no element name at \"%.30s\"", name);
    xml->at += length;
    if (closing) {
        CHECK_THAT(xml->depth > 0, "malloc_info: \"%.30s\" closes nothing", name);
        xml->depth--;
        CHECK_THAT(xml->lengths[xml->depth] == length &&
                       memcmp(xml->names[xml->depth], name, length) == 0,
                   "malloc_info: \"%.30s\" closes another element", name);
    } else {
        CHECK_THAT(xml->depth > 0 || xml->elements == 0, "malloc_info: two root elements");
        xml->elements++;
        xml_attributes(xml);
        CHECK_THAT(xml->depth < 32, "malloc_info: nested too deeply");
        if (*xml->at == '/') {
            xml->at++;
        } else {
            xml->names[xml->depth] = name;
            xml->lengths[xml->depth++] = length;
        }
    }
    CHECK_THAT(*xml->at == '>', "malloc_info: no '>' at \"%.30s\"", xml->at);
    xml->at++;
}

/* Elements nest, attributes are quoted, there is one root and text only inside it. */
static size_t xml_elements(const char *text) {
    struct xml xml = {.at = text};
    for (skip_space(&xml); *xml.at != '\0'; skip_space(&xml)) {
        if (*xml.at == '<') {
            xml_tag(&xml);
        } else {
            size_t words = strcspn(xml.at, "<>&");
            CHECK_THAT(xml.depth > 0 && words > 0, "malloc_info: text at \"%.30s\"", xml.at);
            xml.at += words;
        }
    }
    CHECK_THAT(xml.depth == 0, "malloc_info: %u elements are not closed", xml.depth);
    return xml.elements;
}

static void malloc_info_xml(void) {
    void *blocks[200];
    for (size_t i = 0; i < 200; i++) blocks[i] = malloc(i * i * 7);
    char *text = NULL;
    size_t length = 0;
    FILE *file = open_memstream(&text, &length);
    CHECK(file != NULL);
    CHECK_EQ(malloc_info(0, file), 0);
    CHECK_EQ(fclose(file), 0);
    CHECK_EQ(strlen(text), length);
    CHECK_THAT(strncmp(text, "<malloc version=\"", 17) == 0, "malloc_info begins \"%.40s\"", text);
    size_t elements = xml_elements(text);
    CHECK_THAT(elements >= 3, "malloc_info has only %zu elements", elements);
    free(text);
    for (size_t i = 0; i < 200; i++) free(blocks[i]);
    file = fopen("/dev/null", "w");
    CHECK(file != NULL);
    CHECK_THAT(malloc_info(1, file) != 0, "malloc_info takes options that do not exist");
    fclose(file);
    check_passed("malloc_info writes well-formed XML of %zu elements", elements);
}

/* ------------------------------------------------------------------ the others --------------- */

static void stats_on_stderr(void) {
    char path[] = "/tmp/check-stats-XXXXXX";
    int file = mkstemp(path), saved = dup(STDERR_FILENO);
    CHECK(file >= 0 && saved >= 0);
    unlink(path);
    CHECK(dup2(file, STDERR_FILENO) >= 0);
    malloc_stats();
    fflush(stderr);
    CHECK(dup2(saved, STDERR_FILENO) >= 0);
    char text[4096];
    ssize_t length = pread(file, text, sizeof text, 0);
    close(file);
    close(saved);
    CHECK_THAT(length > 20, "malloc_stats wrote %zd bytes on stderr", length);
    check_passed("malloc_stats writes on stderr");
}

static void trim(void) {
    enum { COUNT = 30000 };
    static void *blocks[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        blocks[i] = malloc(2000);
        CHECK(blocks[i] != NULL);
        memset(blocks[i], 1, 2000);
    }
    size_t full = check_rss_bytes();
    CHECK(full >= (size_t)COUNT * 2000);
    for (size_t i = 0; i < COUNT; i++) free(blocks[i]);
    int result = malloc_trim(0);
    CHECK_THAT(result == 0 || result == 1, "malloc_trim gave %d", result);
    size_t after = check_rss_bytes();
    if (!check_quirk("memory-kept")) {
        CHECK_THAT(after <= full - (size_t)COUNT * 2000 / 16 * 15,
                   "resident %zu KiB, %zu KiB after free and malloc_trim", full / 1024,
                   after / 1024);
    }
    result = malloc_trim(0);
    CHECK(result == 0 || result == 1);
    check_passed("malloc_trim gives free memory back");
}

static void options(void) {
    static const int meant[] = {M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD, M_ARENA_MAX};
    static const int values[] = {1 << 20, 1 << 20, 1 << 17, 4};
    if (check_quirk("mallopt")) {
        CHECK_EQ(mallopt(M_MMAP_THRESHOLD, 1 << 20), 0);
        return;
    }
    for (size_t i = 0; i < CHECK_COUNT_OF(meant); i++) {
        if (meant[i] == M_ARENA_MAX && check_quirk("arena-max")) continue;
        CHECK_THAT(mallopt(meant[i], values[i]) == 1, "mallopt(%d, %d) is not 1", meant[i],
                   values[i]);
    }
    if (check_strict) {
        CHECK_EQ(mallopt(12345, 1), 0);
        CHECK_EQ(mallopt(-12345, 1), 0);
        CHECK_EQ(mallopt(M_MMAP_THRESHOLD, -1), 0);
    }
    /* Above the threshold, and only above it, a block has a mapping of its own. */
    size_t maps = mallinfo2().hblks;
    void *large = malloc(3 * CHECK_MIB);
    CHECK_EQ(mallinfo2().hblks, maps + 1);
    void *small = malloc(CHECK_MIB / 2);
    CHECK_EQ(mallinfo2().hblks, maps + 1);
    free(large);
    CHECK_EQ(mallinfo2().hblks, maps);
    free(small);
    check_passed("mallopt: 1 for what it knows; the mmap threshold is kept");
}

/* M_PERTURB fills new blocks with the complement of the byte. glibc leaves it out for the small
   blocks of its thread cache, so those are checked in strict mode only. */
static void perturb(void) {
    if (check_quirk("perturb")) return;
    CHECK_EQ(mallopt(M_PERTURB, 0x5a), 1);
    for (size_t size = check_strict ? 8 : 1100; size <= 200000; size = size * 3 / 2) {
        unsigned char *block = check_hidden(malloc(size));
        CHECK(block != NULL);
        for (size_t i = 0; i < size; i++) {
            CHECK_THAT(block[i] == 0xa5, "byte %zu of a new block of %zu is 0x%02x", i, size,
                       block[i]);
        }
        memset(block, 1, size);
        free(block);
        block = check_hidden(calloc(1, size));
        CHECK(block != NULL);
        CHECK_ZERO(block, size);
        free(block);
    }
    CHECK_EQ(mallopt(M_PERTURB, 0), 1);
    check_passed("M_PERTURB fills new blocks, calloc still gives zeroes");
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    check_small_pages();
    mallinfo_figures();
    malloc_info_xml();
    stats_on_stderr();
    trim();
    options();
    perturb();
    return 0;
}
