/* tiny.h - what bench_startup and the process that it starts agree on. */
#ifndef BENCH_TINY_H
#define BENCH_TINY_H

#include "proc.h"

#define TINY_PROGRAM "bench_tiny"      /* beside bench_startup */
#define EMPTY_LIBRARY "bench_empty.so" /* there too           */
#define TINY_REPORT "report"
enum { TINY_PIPE = 3, TINY_BLOCK = 100 };

#endif
