# The library, in its four forms. All are made of src/<layer>/*.c.
#
#   lucid            liblucid.so   to preload or link: malloc's names, lu_*, dlopen, nothing else
#   lucid_object     liblucid.o    the same without dlopen, one relocatable object, for static
#                                  override
#   lucid_static     liblucid.a    an archive of that one object, so that a program gets all of the
#                                  malloc names or none, never half of them from libc
#   lucid_engine     static, under lu_ names only, internal names visible: for unit tests,
#                    sanitizers, and tools that must not have their malloc replaced

file(GLOB lucid_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/*/*.c")
list(FILTER lucid_sources EXCLUDE REGEX "/src/api/dlopen\\.c$")

# operator new throws, and an exception passes through the frames of cxx.c. And it asks the loader
# whose operators are used, which link-time optimisation would answer before the program is there.
set_source_files_properties("${PROJECT_SOURCE_DIR}/src/api/cxx.c" PROPERTIES
                            COMPILE_OPTIONS "-fexceptions;-fno-lto")
# Its function is written in assembly.
set_source_files_properties("${PROJECT_SOURCE_DIR}/src/api/dlopen.c" PROPERTIES
                            COMPILE_OPTIONS "-fno-lto")

function(lucid_library_flags target interpose)
    target_compile_features(${target} PUBLIC c_std_17)
    target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}/include"
                                                 "${PROJECT_SOURCE_DIR}/src")
    target_compile_definitions(${target} PRIVATE _GNU_SOURCE LU_INTERPOSE=${interpose}
                                                 LU_DEBUG=${LU_DEBUG})
    target_compile_options(${target} PRIVATE
        -fvisibility=hidden -ftls-model=initial-exec -fno-plt -fno-semantic-interposition
        -fno-builtin-malloc -fno-builtin-calloc -fno-builtin-realloc -fno-builtin-free)
    target_link_libraries(${target} PRIVATE lucid_warnings)
    if(LUCID_COVERAGE)
        target_compile_options(${target} PRIVATE --coverage -fprofile-update=atomic)
        target_link_options(${target} INTERFACE --coverage)
    endif()
endfunction()

# What every program or library that is counted needs once; see there.
set(lucid_coverage "")
if(LUCID_COVERAGE)
    set(lucid_coverage "${PROJECT_SOURCE_DIR}/tests/support/coverage.c")
endif()

add_library(lucid_engine STATIC ${lucid_sources} ${lucid_coverage})
lucid_library_flags(lucid_engine 0)
target_include_directories(lucid_engine INTERFACE "${PROJECT_SOURCE_DIR}/include"
                                                  "${PROJECT_SOURCE_DIR}/src")
target_compile_definitions(lucid_engine INTERFACE _GNU_SOURCE LU_INTERPOSE=0 LU_DEBUG=${LU_DEBUG})

if(NOT LUCID_INTERPOSE)
    return()
endif()

add_library(lucid_objects OBJECT ${lucid_sources} ${lucid_coverage})
lucid_library_flags(lucid_objects 1)
add_library(lucid_dlopen OBJECT src/api/dlopen.c)
lucid_library_flags(lucid_dlopen 1)

set(public_include "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>"
                   "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")

# Bound at load time and then read-only; never unloaded, because threads that ran our code still
# have a destructor of ours to run. Not -Bsymbolic: cxx.c asks the loader whose operators are used.
# Every mapping and every page that is written costs a process microseconds when it starts. So code
# and constants are one segment, there are no start files (their hooks are for things that we have
# not), and there is no initialised data but what is constant after loading: then all of the file's
# writable segment becomes read-only, in one piece, and what changes lies behind it, in .bss.
set(lucid_map "${PROJECT_SOURCE_DIR}/cmake/lucid.map")
add_library(lucid SHARED $<TARGET_OBJECTS:lucid_objects> $<TARGET_OBJECTS:lucid_dlopen>)
target_link_libraries(lucid PRIVATE ${CMAKE_DL_LIBS}) # dlsym, where libc has it apart
set_target_properties(lucid PROPERTIES
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR} LINKER_LANGUAGE C
    LINK_DEPENDS "${lucid_map}" LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}")
target_include_directories(lucid INTERFACE ${public_include})
target_link_options(lucid PRIVATE
    $<$<BOOL:${LUCID_COVERAGE}>:--coverage>
    $<$<NOT:$<BOOL:${LUCID_COVERAGE}>>:LINKER:--version-script=${lucid_map}>
    -nostartfiles LINKER:-z,noseparate-code
    LINKER:-z,now LINKER:-z,relro LINKER:-z,defs LINKER:-z,nodelete
    LINKER:--as-needed LINKER:--hash-style=gnu)

# One object whose internal names cannot clash with a program's. What link-time optimisation left
# for later is compiled here: the names can be hidden in machine code only.
separate_arguments(object_flags UNIX_COMMAND "${CMAKE_SHARED_LINKER_FLAGS}")
if(CMAKE_C_COMPILER_ID STREQUAL GNU)
    list(APPEND object_flags -flinker-output=nolto-rel)
endif()
set(lucid_object "${PROJECT_BINARY_DIR}/liblucid.o")
add_custom_command(
    OUTPUT "${lucid_object}"
    COMMAND ${CMAKE_C_COMPILER} ${object_flags} -r -nostdlib -o liblucid.whole.o
            $<TARGET_OBJECTS:lucid_objects>
    COMMAND ${CMAKE_OBJCOPY} --localize-hidden liblucid.whole.o "${lucid_object}"
    COMMAND ${CMAKE_COMMAND} -E rm liblucid.whole.o
    DEPENDS lucid_objects $<TARGET_OBJECTS:lucid_objects>
    WORKING_DIRECTORY "${PROJECT_BINARY_DIR}"
    COMMENT "Linking liblucid.o" COMMAND_EXPAND_LISTS VERBATIM)
add_custom_target(lucid_object ALL DEPENDS "${lucid_object}")

set_source_files_properties("${lucid_object}" PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
add_library(lucid_static STATIC "${lucid_object}")
add_dependencies(lucid_static lucid_object)
set_target_properties(lucid_static PROPERTIES
    OUTPUT_NAME lucid EXPORT_NAME static LINKER_LANGUAGE C
    ARCHIVE_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}")
target_include_directories(lucid_static INTERFACE ${public_include})
# Also a program that never says malloc itself, but whose libraries do, gets ours.
# operator new throws through libstdc++'s own function, to which we refer weakly so that C programs
# do without it: a static C++ program must be told to take it in.
target_link_options(lucid_static INTERFACE LINKER:-u,malloc
    $<$<LINK_LANGUAGE:CXX>:LINKER:-u,_ZSt17__throw_bad_allocv>)

add_library(lucid::lucid ALIAS lucid)
add_library(lucid::static ALIAS lucid_static)
