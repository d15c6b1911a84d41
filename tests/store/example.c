/* example.c - a list of words that stays: each run adds its arguments and prints all there are. */
#include <stdio.h>
#include <string.h>

#include "lucid/lucid.h"

struct word {
    uint64_t next; /* handle of the word before this one, 0 at the end */
    char text[];
};

/* Put a word in front of the list. Killed at any moment, the list is the old or the new one. */
static int add(lu_store_t *store, const char *text) {
    struct word *word = lu_store_malloc(store, sizeof *word + strlen(text) + 1);
    if (word == NULL) return -1;
    word->next = lu_store_root(store);
    strcpy(word->text, text);
    return lu_store_set_root(store, lu_store_handle(store, word)); /* the instant */
}

int main(int argc, char **argv) {
    lu_store_fault_t fault;
    if (argc < 2) return 2;
    lu_store_t *store = lu_heap_open_file(argv[1], NULL, &fault);
    if (store == NULL) {
        fprintf(stderr, "%s: %s\n", argv[1], fault.text);
        return 1;
    }
    for (int i = 2; i < argc; i++) {
        if (add(store, argv[i]) != 0) return 1;
    }
    for (uint64_t at = lu_store_root(store); at != 0;) {
        const struct word *word = lu_store_pointer(store, at);
        puts(word->text);
        at = word->next;
    }
    return lu_store_close(store);
}
