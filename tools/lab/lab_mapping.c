/*
 * lab_mapping.c - mmap itself: a file through memory, memory between processes, msync, SIGBUS.
 */
#include "lab/lab_list.h"

static void run(struct lab *lab) {
    const struct lab_facts *facts = lab_probe_alone(lab, (const char *[]){"mapping", NULL});
    static const struct {
        const char *name, *words;
    } held[] = {
        {"file_read", "a file of 12 bytes, read through its mapping, is \"Hello, mmap!\""},
        {"file_written", "bytes written to the mapping (MAP_SHARED) are what read(2) then gives"},
        {"synced", "msync(MS_SYNC) succeeds: now they are on the disk as well"},
        {"private_kept", "the same with MAP_PRIVATE: the file is as it was"},
        {"tail_zero", "behind the end of the file, to the end of its page, there are zeros"},
        {"tail_lost", "a byte written there does not make the file longer"},
        {"bus_error", "the page behind that is SIGBUS: the mapping is there, the file is not"},
        {"child_sees", "an anonymous shared mapping: the child reads what the parent wrote"},
        {"parent_sees", "and the parent what the child wrote"},
        {"private_apart", "with MAP_PRIVATE the parent does not: each has its own copy"},
        {"unmapped", "after munmap the address is nobody's: SIGSEGV"},
    };
    document_table(lab_document(lab), "A file of 12 bytes, written through memory",
                   "when|what read(2) gives");
    document_row(lab_document(lab), "before|%s", lab_text(facts, "content_before"));
    document_row(lab_document(lab), "after memcpy(at + 7, \"World\", 5)|%s",
                 lab_text(facts, "content_after"));
    document_table(lab_document(lab), "mmap", "what|measured");
    for (size_t i = 0; i < sizeof held / sizeof held[0]; i++) {
        double value = lab_number(facts, held[i].name);
        document_row(lab_document(lab), "%s|%s", held[i].words, value == 1 ? "yes" : "no");
        lab_check(lab, "", value == 1, "%s", held[i].words);
    }
    double mapped = lab_number(facts, "lazy_mapped"), one = lab_number(facts, "lazy_one");
    lab_check(lab, "", one > 0 && one <= mapped / 8 && lab_number(facts, "lazy_all") >= mapped,
              "of a file of %.0f KiB that is mapped, %.0f KiB are resident after one byte was "
              "touched, and %.0f after a byte of each page was",
              mapped / 1024, one / 1024, lab_number(facts, "lazy_all") / 1024);
}

const struct lab_experiment lab_mapping = {
    .name = "mapping",
    .title = "Files and memory between processes: mmap",
    .expect =
        "A file can be mapped: then reading and writing memory is reading and writing the file, "
        "page by page, as they are touched. Shared mappings (MAP_SHARED) go to the file and to "
        "every process that maps it, private ones make a copy of a page when it is written. A "
        "mapping of no file that is shared is memory between a parent and its children. The file's "
        "size is the limit: what lies behind its end in its last page reads as zero and is lost, "
        "and the page after that is SIGBUS. What a file mapping is good for as a heap, lucid shows "
        "with lu_store_open (docs/STORE.md).",
    .run = run,
};
