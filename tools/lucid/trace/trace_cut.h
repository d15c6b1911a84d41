/* trace_cut.h - `lucid trace cut`. */
#ifndef LUCID_TRACE_CUT_H
#define LUCID_TRACE_CUT_H

/* argv[0] is "cut"; the exit status. */
int trace_cut_main(int argc, char **argv);

#endif
