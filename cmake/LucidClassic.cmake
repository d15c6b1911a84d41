# The classic allocators (classic/).
#
#   lucid_classic         static: all of them behind classic/classic.h, for the command, the tests
#   lucid_classic_NAME    classic/liblucid-NAME.so: one of them as a library to preload, which the
#                         command finds there
#
# They use the lowest layers of the engine (base, os), under its lu_ names.

file(GLOB classic_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/classic/*.c")
list(FILTER classic_sources EXCLUDE REGEX "/preload[^/]*\\.c$")
add_library(lucid_classic STATIC ${classic_sources})
lucid_library_flags(lucid_classic 0)
target_link_libraries(lucid_classic PUBLIC lucid_engine)
# For "classic/FILE.h": only in quotes, and scripts/check-layers lets no other folder of the project
# be named in this way.
set(classic_include "SHELL:-iquote \"${PROJECT_SOURCE_DIR}\"")
target_compile_options(lucid_classic PUBLIC ${classic_include})

# In the order of classic/registry.c.
set(LUCID_CLASSIC_NAMES kr first next best best_tree worst buddy slab dl pt)

# What counts coverage brings symbols of its own, which a library to preload must not show.
set(lucid_classic_preloads "")
if(NOT LUCID_COMMAND OR LUCID_COVERAGE)
    return()
endif()

# Bound at load time and then read-only; never unloaded, because threads that ran its code still
# have a destructor of it to run; initialised first (preload.c says why). Of the archives only what
# the one policy needs is taken in.
set(classic_map "${PROJECT_SOURCE_DIR}/cmake/classic.map")
add_library(lucid_classic_info OBJECT classic/preload_info.c)
lucid_library_flags(lucid_classic_info 0)
target_compile_options(lucid_classic_info PRIVATE ${classic_include})
foreach(name IN LISTS LUCID_CLASSIC_NAMES)
    set(target lucid_classic_${name})
    add_library(${target} SHARED classic/preload.c $<TARGET_OBJECTS:lucid_classic_info>)
    lucid_library_flags(${target} 0)
    target_compile_definitions(${target} PRIVATE LU_POLICY=lu__policy_${name})
    target_link_libraries(${target} PRIVATE lucid_classic)
    target_link_options(${target} PRIVATE
        LINKER:--version-script=${classic_map} LINKER:-z,now LINKER:-z,relro LINKER:-z,defs
        LINKER:-z,nodelete LINKER:-z,initfirst LINKER:--as-needed LINKER:--hash-style=gnu)
    set_target_properties(${target} PROPERTIES
        OUTPUT_NAME lucid-${name} LINK_DEPENDS "${classic_map}"
        LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/classic")
    list(APPEND lucid_classic_preloads ${target})
endforeach()
