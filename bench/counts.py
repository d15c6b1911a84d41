#!/usr/bin/python3
"""The instructions and the misses of lucid, against the stored figures.

    bench/counts.py              show both
    bench/counts.py --check      fail if something became worse (ctest does this, label perf)
    bench/counts.py --write      store both, after a change that is meant

bench/callgrind.py --help and bench/cachegrind.py --help say what is counted.
"""

import cachegrind
import callgrind
import valgrind

if __name__ == "__main__":
    valgrind.main([callgrind.Instructions(), cachegrind.Misses()], __doc__)
