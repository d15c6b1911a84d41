/*
 * allocator.c - from a name to a library that can be preloaded.
 *
 *     lucid              LUCID_LIBRARY, else beside this executable, else ../lib of it
 *     kr first …         the classic allocators: classic/ beside this executable, else ../lib/lucid
 *     glibc              libc.so.6 itself, so that its malloc comes first also in a program that
 *                        is linked with another one, as Debian links redis-server with jemalloc
 *     jemalloc …         the sonames below, in the directories where distributions put them
 *     NAME=PATH          that file, shown as NAME
 *
 * The dynamic loader only warns when it cannot preload something, and the program then runs on
 * glibc's malloc under a wrong label. So a file is checked here before anything runs: it must be
 * an ELF shared object of this machine's class and architecture. LD_PRELOAD is split at spaces
 * and colons, so a path with one of these is refused as well.
 */
#include "run/run.h"

#include "frame/frame.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A soname: the loader finds it where the program's own libc is. */
#define GLIBC "libc.so.6"

/* Debian's names first, then those of a build from source. */
static const struct known {
    const char *name;
    const char *sonames[3];
} known[] = {
    {"jemalloc", {"libjemalloc.so.2", "libjemalloc.so", NULL}},
    {"mimalloc", {"libmimalloc.so.3", "libmimalloc.so.2", "libmimalloc.so"}},
    {"tcmalloc", {"libtcmalloc.so.4", "libtcmalloc.so", NULL}},
    {"tcmalloc_minimal", {"libtcmalloc_minimal.so.4", "libtcmalloc_minimal.so", NULL}},
};

static const char *const directories[] = {
    "/usr/lib/" LUCID_MULTIARCH,
    "/lib/" LUCID_MULTIARCH,
    "/usr/local/lib",
    "/usr/lib64",
    "/usr/lib",
};

/* Beside the command, as it is built; where it is installed; and by its soname, where the files
 * that only compilers need are not installed. */
static const char *const lucid_places[] = {"", "../lib/", "../lib/" LUCID_MULTIARCH "/"};

/* Of our own that no linker looks for: beside the command, and where it is installed. */
static const char *const part_places[] = {"", "../lib/lucid/", "../lib/" LUCID_MULTIARCH "/lucid/"};

/* The classic allocators, each liblucid-NAME.so: as it is built, and where it is installed. */
static const char *const classics[] = {LUCID_CLASSICS};
static const char *const classic_places[] = {"classic/", "../lib/lucid/",
                                             "../lib/" LUCID_MULTIARCH "/lucid/"};

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#else
#define MACHINE EM_AARCH64
#endif

/* NULL, or why the file cannot be preloaded. */
static const char *why_not_preloadable(const char *path) {
    Elf64_Ehdr header;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return strerror(errno);
    ssize_t got = read(fd, &header, sizeof(header));
    close(fd);
    if (got != (ssize_t)sizeof(header) || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
        return "not an ELF file";
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != MACHINE)
        return "not for this machine";
    if (header.e_type != ET_DYN) return "not a shared object";
    if (strpbrk(path, " :\t\n") != NULL)
        return "LD_PRELOAD cannot hold a path with spaces or colons";
    return NULL;
}

/* The absolute form of `path` if the file exists, else NULL. The caller frees. */
static char *absolute(const char *path) {
    return realpath(path, NULL);
}

/* The directory of this executable; the caller frees. */
static char *own_directory(void) {
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (length <= 0) tool_die("cannot read /proc/self/exe: %s", strerror(errno));
    self[length] = '\0';
    *strrchr(self, '/') = '\0';
    return tool_format("%s", self);
}

/* The file in the first of the places, which are relative to that directory; NULL if none has it.
 * The caller frees. */
static char *find_beside(const char *const *places, size_t count, const char *file) {
    char *self = own_directory(), *path = NULL;
    for (size_t i = 0; i < count && path == NULL; i++) {
        char *place = tool_format("%s/%s%s", self, places[i], file);
        path = absolute(place);
        free(place);
    }
    free(self);
    return path;
}

static char *find_lucid(void) {
    const char *asked = getenv("LUCID_LIBRARY");
    if (asked != NULL && asked[0] != '\0') {
        char *path = absolute(asked);
        if (path == NULL) tool_bad_input("LUCID_LIBRARY=%s: %s", asked, strerror(errno));
        return path;
    }
    size_t count = TOOL_COUNT_OF(lucid_places);
    char *path = find_beside(lucid_places, count, "liblucid.so");
    if (path == NULL) path = find_beside(lucid_places + 1, count - 1, "liblucid.so.0");
    if (path != NULL) return path;
    tool_die("liblucid.so is neither in %s nor in its ../lib; set LUCID_LIBRARY", own_directory());
}

static char *find_classic(const char *name) {
    char *file = tool_format("liblucid-%s.so", name);
    char *path = find_beside(classic_places, TOOL_COUNT_OF(classic_places), file);
    free(file);
    if (path != NULL) return path;
    tool_die("liblucid-%s.so is neither in %s/classic nor in its ../lib/lucid; name it: %s=PATH",
             name, own_directory(), name);
}

char *allocator_find_part(const char *file) {
    char *path = find_beside(part_places, TOOL_COUNT_OF(part_places), file);
    if (path != NULL) return path;
    tool_die("%s is neither in %s nor in its ../lib/lucid", file, own_directory());
}

char *allocator_find_recorder(void) {
    char *path = allocator_find_part("liblucid-record.so");
    if (strpbrk(path, " :\t\n") != NULL)
        tool_die("LD_PRELOAD cannot hold a path with spaces or colons: %s", path);
    return path;
}

static char *find_known(const struct known *peer) {
    for (size_t d = 0; d < TOOL_COUNT_OF(directories); d++) {
        for (size_t s = 0; s < TOOL_COUNT_OF(peer->sonames) && peer->sonames[s] != NULL; s++) {
            char *place = tool_format("%s/%s", directories[d], peer->sonames[s]);
            char *path = absolute(place);
            free(place);
            if (path != NULL) return path;
        }
    }
    tool_bad_input("%s is not installed here (looked for %s); name its library: %s=PATH",
                   peer->name, peer->sonames[0], peer->name);
}

static char *find_by_name(const char *name) {
    if (strcmp(name, "lucid") == 0) return find_lucid();
    if (strcmp(name, "glibc") == 0) return tool_format("%s", GLIBC);
    for (size_t i = 0; i < TOOL_COUNT_OF(known); i++)
        if (strcmp(known[i].name, name) == 0) return find_known(&known[i]);
    for (size_t i = 0; i < TOOL_COUNT_OF(classics); i++)
        if (strcmp(classics[i], name) == 0) return find_classic(name);
    tool_bad_input("no allocator is known as '%s': " ALLOCATOR_NAMES, name);
}

static struct allocator resolve(const char *spec) {
    struct allocator result;
    const char *equals = strchr(spec, '=');
    if (equals == NULL) {
        result.name = tool_format("%s", spec);
        result.library = find_by_name(spec);
    } else {
        result.name = tool_format("%.*s", (int)(equals - spec), spec);
        result.library = absolute(equals + 1);
        if (result.library == NULL) tool_bad_input("%s: %s", spec, strerror(errno));
    }
    if (result.name[0] == '\0') tool_bad_input("an allocator has no name: '%s'", spec);
    bool is_file = strchr(result.library, '/') != NULL;
    const char *problem = is_file ? why_not_preloadable(result.library) : NULL;
    if (problem != NULL)
        tool_bad_input("%s: cannot preload %s: %s", result.name, result.library, problem);
    return result;
}

void allocator_add(struct allocator_list *list, const char *spec) {
    struct allocator found = resolve(spec);
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->at[i].name, found.name) == 0)
            tool_bad_input("allocator '%s' is named twice", found.name);
    list->at = tool_grow(list->at, list->count + 1, sizeof(list->at[0]));
    list->at[list->count++] = found;
}

void allocator_add_all(struct allocator_list *list, const char *specs) {
    char *copy = tool_format("%s", specs);
    char *rest = copy;
    for (char *spec = strsep(&rest, ","); spec != NULL; spec = strsep(&rest, ","))
        allocator_add(list, spec);
    free(copy);
}

void allocator_list_fini(struct allocator_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        free(list->at[i].name);
        free(list->at[i].library);
    }
    free(list->at);
    *list = (struct allocator_list){NULL, 0};
}
