/*
 * empty.c - a library that does nothing. Preloading it costs what the loader costs for any library,
 * which is what startup.py compares lucid's start with.
 */
extern const char startup_empty[];
const char startup_empty[] = "empty";
