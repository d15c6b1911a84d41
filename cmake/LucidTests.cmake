# How tests are declared. Every test is named PRESET/GROUP.NAME ("debug/unit.format"), so that one
# run of ctest over all presets (cmake/CTestAll.cmake) tells which build failed.
#
#   lucid_add_unit_test(NAME SOURCE... [WRAP FUNCTION...])
#       A cmocka program linked to lucid_engine. WRAP lists functions of the library that the test
#       replaces: calls of f reach __wrap_f in the test, which may call the real __real_f.
#   lucid_add_preload_test(NAME COMMAND [ARGUMENT...])
#       Run a program with liblucid.so preloaded; COMMAND may be a target. Only the program gets
#       LD_PRELOAD, not ctest. Properties (TIMEOUT, PASS_REGULAR_EXPRESSION...) are set as usual,
#       on the test "${LUCID_TEST_PREFIX}NAME".
#   lucid_add_test(NAME COMMAND [ARGUMENT...])
#       The same without the preload.

enable_language(CXX)
find_package(PkgConfig REQUIRED)
pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)

set(LUCID_PRESET "" CACHE STRING "Name of this build in the names of its tests")
set(LUCID_TEST_PREFIX "")
if(LUCID_PRESET)
    set(LUCID_TEST_PREFIX "${LUCID_PRESET}/")
endif()

# The sanitizers of gcc 12 and clang 14 do not start where the kernel places mappings with more
# than 28 random bits. Where a process may switch that off, do.
set(LUCID_TEST_LAUNCHER "")
if(LUCID_SANITIZE)
    execute_process(COMMAND setarch --addr-no-randomize true RESULT_VARIABLE status
                    OUTPUT_QUIET ERROR_QUIET)
    if(status EQUAL 0)
        set(LUCID_TEST_LAUNCHER setarch --addr-no-randomize)
    endif()
endif()

function(lucid_add_test name command)
    if(TARGET ${command})
        set(command ${LUCID_TEST_LAUNCHER} $<TARGET_FILE:${command}>)
    endif()
    add_test(NAME "${LUCID_TEST_PREFIX}${name}" COMMAND ${command} ${ARGN})
    string(REGEX MATCH "^[^.]+" group "${name}")
    set_tests_properties("${LUCID_TEST_PREFIX}${name}" PROPERTIES LABELS "${group}")
endfunction()

function(lucid_add_unit_test name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "WRAP")
    set(target unit_${name})
    add_executable(${target} ${arg_UNPARSED_ARGUMENTS})
    target_link_libraries(${target} PRIVATE lucid_engine PkgConfig::CMOCKA)
    foreach(symbol IN LISTS arg_WRAP)
        target_link_options(${target} PRIVATE LINKER:--wrap=${symbol})
    endforeach()
    lucid_add_test(unit.${name} ${target})
endfunction()

function(lucid_add_preload_test name)
    if(NOT TARGET lucid)
        message(FATAL_ERROR "${name}: this build has no liblucid.so to preload")
    endif()
    lucid_add_test(${name} ${ARGN})
    set_tests_properties("${LUCID_TEST_PREFIX}${name}" PROPERTIES
                         ENVIRONMENT "LD_PRELOAD=$<TARGET_FILE:lucid>")
endfunction()
