# Reading and compacting traces (docs/TRACE.md): for the command, the tests and the fuzzers, which
# are also built where the command is not.
#
#   lucid_trace    static: tools/lucid/trace/trace.h, and the headers below it

find_package(PkgConfig REQUIRED)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)

set(trace_sources trace.c trace_chunks.c trace_compact.c trace_decode.c trace_lucid.c
                  trace_map.c trace_rep.c)
list(TRANSFORM trace_sources PREPEND "${PROJECT_SOURCE_DIR}/tools/lucid/trace/")
list(APPEND trace_sources "${PROJECT_SOURCE_DIR}/tools/lucid/frame/tool.c"
                          "${PROJECT_SOURCE_DIR}/tools/record/crc.c")
add_library(lucid_trace STATIC ${trace_sources})
target_compile_definitions(lucid_trace PUBLIC _GNU_SOURCE)
target_include_directories(lucid_trace PUBLIC "${PROJECT_SOURCE_DIR}/tools/lucid"
                                              "${PROJECT_SOURCE_DIR}/tools")
target_link_libraries(lucid_trace PUBLIC PkgConfig::ZSTD PRIVATE lucid_warnings)
