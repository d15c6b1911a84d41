# How tests are declared. Every test is named PRESET/GROUP.NAME ("debug/unit.format"), so that one
# run of ctest over all presets (cmake/CTestAll.cmake) tells which build failed.
#
#   lucid_add_unit_test(NAME SOURCE... [WRAP FUNCTION...])
#       A cmocka program linked to lucid_engine. WRAP lists functions of the library that the test
#       replaces: calls of f reach __wrap_f in the test, which may call the real __real_f. With
#       LUCID_TEST_PAGES it runs also on larger pages.
#   lucid_wrap_kernel(TARGET)
#       Put tests/support/os_kernel.c between the engine in TARGET and the kernel.
#   lucid_add_page_tests(NAME ENVIRONMENT COMMAND [ARGUMENT...])
#       Run a program that was treated so once for each larger page size, as the tests
#       GROUP_pages16.REST and GROUP_pages64.REST of the NAME GROUP.REST. ENVIRONMENT is a list of
#       further variables, or "".
#   lucid_add_old_move_test(NAME ENVIRONMENT COMMAND [ARGUMENT...])
#       Run such a program on a kernel that moves pages as before Linux 6.17, as GROUP_oldmove.REST.
#   lucid_add_preload_test(NAME COMMAND [ARGUMENT...])
#       Run a program with liblucid.so preloaded; COMMAND may be a target. Only the program gets
#       LD_PRELOAD, not ctest. Properties (TIMEOUT, PASS_REGULAR_EXPRESSION...) are set as usual,
#       on the test "${LUCID_TEST_PREFIX}NAME".
#   lucid_add_test(NAME COMMAND [ARGUMENT...])
#       The same without the preload.
#
# A build for another processor (cmake/aarch64.cmake) runs them all in its emulator.

enable_language(CXX)
if(LUCID_CROSS_ROOT)
    set(fetch "${PROJECT_SOURCE_DIR}/scripts/cross-packages")
    execute_process(COMMAND ${fetch} ${LUCID_CROSS_ARCHITECTURE} "${LUCID_CROSS_ROOT}"
                            libcmocka0 libcmocka-dev COMMAND_ERROR_IS_FATAL ANY)
    execute_process(COMMAND dpkg --print-architecture OUTPUT_VARIABLE host
                    OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
    execute_process(COMMAND ${fetch} --backports ${host} "${LUCID_EMULATOR_ROOT}" qemu-user
                    COMMAND_ERROR_IS_FATAL ANY)
endif()
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
set(LUCID_TEST_ENVIRONMENT "")
set(LUCID_PRELOAD_VARIABLE LD_PRELOAD=)
if(CMAKE_CROSSCOMPILING)
    set(LUCID_TEST_LAUNCHER ${CMAKE_CROSSCOMPILING_EMULATOR})
    # For LUCID_TEST_NO_MOVE see os_kernel.c.
    set(LUCID_TEST_ENVIRONMENT "QEMU_LD_PREFIX=${LUCID_EMULATOR_PREFIX}"
        "LUCID_TEST_EMULATOR=${CMAKE_CROSSCOMPILING_EMULATOR}" LUCID_TEST_NO_MOVE=1)
    set(LUCID_PRELOAD_VARIABLE QEMU_SET_ENV=LD_PRELOAD=) # the emulator itself is not to load it
endif()
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
    if(CMAKE_CROSSCOMPILING)
        list(APPEND group ${CMAKE_SYSTEM_PROCESSOR})
    endif()
    set_tests_properties("${LUCID_TEST_PREFIX}${name}" PROPERTIES
                         LABELS "${group}" ENVIRONMENT "${LUCID_TEST_ENVIRONMENT}")
endfunction()

add_library(test_os_kernel OBJECT "${PROJECT_SOURCE_DIR}/tests/support/os_kernel.c")
target_include_directories(test_os_kernel PRIVATE "${PROJECT_SOURCE_DIR}/src"
                                                  "${PROJECT_SOURCE_DIR}/tests/support")
target_compile_definitions(test_os_kernel PRIVATE _GNU_SOURCE)
target_compile_options(test_os_kernel PRIVATE -fvisibility=hidden)
target_link_libraries(test_os_kernel PRIVATE lucid_warnings)

function(lucid_wrap_kernel target)
    target_link_libraries(${target} PRIVATE test_os_kernel)
    target_link_options(${target} PRIVATE LINKER:--wrap=lu__kernel_memory_call
                                          LINKER:--wrap=lu__os_page_read)
endfunction()

# liblucid.so on another kernel; QEMU's is such a one.
set(LUCID_PRELOADED lucid)
if(TARGET lucid AND (LUCID_TEST_PAGES OR CMAKE_CROSSCOMPILING))
    add_library(lucid_kernel SHARED $<TARGET_OBJECTS:lucid_objects>
                                    $<TARGET_OBJECTS:lucid_dlopen>)
    target_link_libraries(lucid_kernel PRIVATE ${CMAKE_DL_LIBS})
    get_target_property(options lucid LINK_OPTIONS)
    target_link_options(lucid_kernel PRIVATE ${options})
    set_target_properties(lucid_kernel PROPERTIES LINKER_LANGUAGE C)
    lucid_wrap_kernel(lucid_kernel)
    if(CMAKE_CROSSCOMPILING)
        set(LUCID_PRELOADED lucid_kernel)
    endif()
endif()

function(lucid_add_page_tests name environment)
    foreach(kib 16 64)
        string(REGEX REPLACE "^([^.]+)" "\\1_pages${kib}" copy "${name}")
        lucid_add_test(${copy} ${ARGN})
        math(EXPR bytes "1024 * ${kib}")
        set_property(TEST "${LUCID_TEST_PREFIX}${copy}" APPEND PROPERTY
                     ENVIRONMENT ${environment} LUCID_TEST_PAGE=${bytes})
    endforeach()
endfunction()

function(lucid_add_old_move_test name environment)
    string(REGEX REPLACE "^([^.]+)" "\\1_oldmove" copy "${name}")
    lucid_add_test(${copy} ${ARGN})
    set_property(TEST "${LUCID_TEST_PREFIX}${copy}" APPEND PROPERTY
                 ENVIRONMENT ${environment} LUCID_TEST_OLD_MOVE=1)
endfunction()

function(lucid_add_unit_test name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "WRAP")
    set(target unit_${name})
    add_executable(${target} ${arg_UNPARSED_ARGUMENTS})
    target_link_libraries(${target} PRIVATE lucid_engine PkgConfig::CMOCKA)
    lucid_wrap_kernel(${target})
    foreach(symbol IN LISTS arg_WRAP)
        target_link_options(${target} PRIVATE LINKER:--wrap=${symbol})
    endforeach()
    lucid_add_test(unit.${name} ${target})
    if(LUCID_TEST_PAGES)
        lucid_add_page_tests(unit.${name} "" ${target})
        lucid_add_old_move_test(unit.${name} "" ${target})
    endif()
endfunction()

function(lucid_add_preload_test name)
    if(NOT TARGET lucid)
        message(FATAL_ERROR "${name}: this build has no liblucid.so to preload")
    endif()
    lucid_add_test(${name} ${ARGN})
    set_property(TEST "${LUCID_TEST_PREFIX}${name}" APPEND PROPERTY
                 ENVIRONMENT "${LUCID_PRELOAD_VARIABLE}$<TARGET_FILE:${LUCID_PRELOADED}>")
endfunction()

# A program that runs on any malloc, with the helpers of tests/conformance.
function(lucid_add_program target)
    find_package(Threads REQUIRED)
    add_executable(${target} ${ARGN})
    target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}/tests/conformance")
    target_compile_definitions(${target} PRIVATE _GNU_SOURCE)
    target_compile_options(${target} PRIVATE
        -O2 -fno-builtin-malloc -fno-builtin-calloc -fno-builtin-realloc -fno-builtin-free)
    target_link_libraries(${target} PRIVATE lucid_warnings Threads::Threads ${CMAKE_DL_LIBS})
endfunction()
