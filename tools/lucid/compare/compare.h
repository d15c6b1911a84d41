/* compare.h - `lucid compare`: programs on several allocators, many times. */
#ifndef LUCID_COMPARE_H
#define LUCID_COMPARE_H

int tool_compare_main(int argc, char **argv);

#endif
