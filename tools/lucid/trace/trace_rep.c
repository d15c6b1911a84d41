/*
 * trace_rep.c - reading the traces of the malloc lab (R. E. Bryant, D. R. O'Hallaron, "Computer
 * Systems: A Programmer's Perspective", the driver of its malloc exercise).
 *
 *     20000          a heap size that was once suggested; any number
 *     3              ids: those below are used
 *     6              operations that follow
 *     1              weight of the trace in a grade; any number
 *     a 0 512        allocate 512 bytes, call them 0
 *     r 0 640        resize what is called 0
 *     f 0            free it
 *
 * One line for each number and each operation; words are parted by blanks or tabs, empty lines and
 * a carriage return at the end of a line do not matter. All else is refused with the offset of the
 * first byte that is wrong: other words, numbers that do not fit, ids out of bounds, a block that
 * is allocated twice or is not there, fewer or more operations than were promised.
 *
 * The file is held in memory and parsed to check it, and again for each reading. An id may be used
 * again after it was freed; it is another block then. All is one thread, and as there is no time in
 * it, an operation takes a microsecond.
 */
#include "trace/trace_reader.h"

#include "frame/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER_LINES = 4, WORDS_MOST = 3 };

struct rep {
    struct trace trace; /* first */
    char *text;
    size_t bytes;
    uint64_t ids, ops;
    size_t body; /* offset behind the header */

    /* Of the reading. */
    size_t at;
    uint64_t done; /* operations read    */
    uint64_t next_block;
    uint64_t *block_of; /* by id, plus 1; 0: not live */
};

struct word {
    size_t at, length;
};

struct line {
    size_t at;
    struct word words[WORDS_MOST];
    size_t count; /* may be more than WORDS_MOST */
};

/* ------------------------------------------------------------------ text --------------------- */

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}

/* The next line that is not empty; false at the end. */
static bool next_line(struct rep *rep, struct line *line) {
    *line = (struct line){.at = rep->at};
    while (rep->at < rep->bytes) {
        char c = rep->text[rep->at];
        if (c == '\n' && line->count > 0) break;
        if (c == '\n' || is_blank(c)) {
            rep->at++;
            continue;
        }
        struct word word = {.at = rep->at};
        while (rep->at < rep->bytes && rep->text[rep->at] != '\n' && !is_blank(rep->text[rep->at]))
            rep->at++;
        word.length = rep->at - word.at;
        if (line->count == 0) line->at = word.at;
        if (line->count < WORDS_MOST) line->words[line->count] = word;
        line->count++;
    }
    return line->count > 0;
}

static bool read_number(const struct rep *rep, const struct word *word, uint64_t most,
                        uint64_t *out) {
    uint64_t value = 0;
    for (size_t i = 0; i < word->length; i++) {
        char c = rep->text[word->at + i];
        if (c < '0' || c > '9') return false;
        if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(c - '0'), &value))
            return false;
    }
    *out = value;
    return word->length > 0 && value <= most;
}

/* ------------------------------------------------------------------ operations --------------- */

/* False with `error` filled in. */
static bool refuse(struct trace_error *error, uint64_t offset, const char *reason) {
    trace_refuse(error, offset, "%s", reason);
    return false;
}

static bool read_header(struct rep *rep, struct trace_error *error) {
    static const char *const names[HEADER_LINES] = {"the suggested heap size", "the number of ids",
                                                    "the number of operations", "the weight"};
    uint64_t values[HEADER_LINES] = {0};
    struct line line;
    for (size_t i = 0; i < HEADER_LINES; i++) {
        if (!next_line(rep, &line)) {
            trace_refuse(error, rep->bytes, "it ends before %s", names[i]);
            return false;
        }
        if (line.count != 1 || !read_number(rep, &line.words[0], INT64_MAX, &values[i])) {
            trace_refuse(error, line.at, "%s is not a number on a line of its own", names[i]);
            return false;
        }
        if ((i == 1 || i == 2) && values[i] > rep->bytes) {
            trace_refuse(error, line.at, "%s is larger than the whole file", names[i]);
            return false;
        }
    }
    rep->ids = values[1];
    rep->ops = values[2];
    rep->body = rep->at;
    return true;
}

/* The event of a line; false with `error` filled in. */
static bool read_event(struct rep *rep, const struct line *line, struct trace_event *event,
                       struct trace_error *error) {
    const struct word *words = line->words;
    uint64_t id, size = 0;
    char letter = words[0].length == 1 ? rep->text[words[0].at] : '?';
    bool sized = letter == 'a' || letter == 'r';
    if (!sized && letter != 'f') return refuse(error, words[0].at, "this is none of a, f and r");
    if (line->count != (sized ? 3u : 2u))
        return refuse(error, line->at,
                      sized ? "a and r are followed by an id and a size, and no more"
                            : "f is followed by an id, and no more");
    if (!read_number(rep, &words[1], rep->ids > 0 ? rep->ids - 1 : 0, &id) || rep->ids == 0)
        return refuse(error, words[1].at, "this is no id below the number in the header");
    if (sized && !read_number(rep, &words[2], PTRDIFF_MAX, &size))
        return refuse(error, words[2].at, "this is no size");
    uint64_t *block = &rep->block_of[id];
    if (letter == 'a' && *block != 0)
        return refuse(error, line->at, "this id is allocated already");
    if (letter != 'a' && *block == 0) return refuse(error, line->at, "this id is not allocated");
    *event = (struct trace_event){.kind = letter == 'a'   ? TRACE_ALLOC
                                          : letter == 'r' ? TRACE_RESIZE
                                                          : TRACE_FREE,
                                  .time_ns = rep->done * 1000,
                                  .size = size};
    if (letter == 'r') event->old = *block - 1;
    if (letter == 'f') {
        event->block = *block - 1;
        *block = 0;
    } else {
        event->block = rep->next_block++;
        *block = rep->next_block;
    }
    rep->done++;
    return true;
}

static void rep_rewind(struct trace *trace) {
    struct rep *rep = (struct rep *)trace;
    rep->at = rep->body;
    rep->done = rep->next_block = 0;
    memset(rep->block_of, 0, (size_t)rep->ids * sizeof(uint64_t));
}

static bool rep_next(struct trace *trace, struct trace_event *event) {
    struct rep *rep = (struct rep *)trace;
    struct line line;
    return rep->done < rep->ops && next_line(rep, &line) && read_event(rep, &line, event, NULL);
}

static bool check_body(struct rep *rep, struct trace_error *error) {
    struct trace_event event;
    struct line line;
    while (next_line(rep, &line)) {
        if (rep->done == rep->ops)
            return refuse(error, line.at, "there are more operations than the header says");
        if (!read_event(rep, &line, &event, error)) return false;
    }
    if (rep->done == rep->ops) return true;
    trace_refuse(error, rep->bytes, "it ends after %llu of %llu operations",
                 (unsigned long long)rep->done, (unsigned long long)rep->ops);
    return false;
}

/* ------------------------------------------------------------------ the file ----------------- */

static void rep_close(struct trace *trace) {
    struct rep *rep = (struct rep *)trace;
    free(rep->block_of);
    free(rep->text);
    free(rep);
}

/* All of the file; false with `error` filled in. */
static bool read_text(struct rep *rep, const char *path, struct trace_error *error) {
    FILE *file = fopen(path, "re");
    size_t room = 0, got = 1;
    if (file == NULL) return refuse(error, 0, strerror(errno));
    while (got > 0) {
        if (rep->bytes == room) {
            room = room * 2 + 65536;
            rep->text = tool_grow(rep->text, room, 1);
        }
        got = fread(rep->text + rep->bytes, 1, room - rep->bytes, file);
        rep->bytes += got;
    }
    bool failed = ferror(file) != 0;
    fclose(file);
    return !failed || refuse(error, rep->bytes, "it cannot be read further");
}

bool trace_rep_is(const unsigned char *first, size_t bytes) {
    size_t i = 0;
    while (i < bytes && (first[i] == '\n' || is_blank((char)first[i]))) i++;
    size_t digits = i;
    while (i < bytes && first[i] >= '0' && first[i] <= '9') i++;
    return i > digits && (i == bytes || first[i] == '\n' || is_blank((char)first[i]));
}

struct trace *trace_rep_open(const char *path, struct trace_error *error) {
    static const struct trace_ops ops = {
        .next = rep_next, .rewind = rep_rewind, .close = rep_close};
    struct rep *rep = tool_alloc(1, sizeof(*rep));
    rep->trace.ops = &ops;
    rep->trace.info.format = "rep";
    if (read_text(rep, path, error) && read_header(rep, error)) {
        rep->block_of = tool_alloc(rep->ids, sizeof(uint64_t));
        if (check_body(rep, error)) {
            rep_rewind(&rep->trace);
            return &rep->trace;
        }
    }
    rep_close(&rep->trace);
    return NULL;
}
