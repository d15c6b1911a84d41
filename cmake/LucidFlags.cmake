# Language, warnings and sanitizers.
#
#   lucid_warnings   interface target: the warnings that everything is compiled with

set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

add_library(lucid_warnings INTERFACE)
target_compile_options(lucid_warnings INTERFACE
    -Wall -Wextra -Wshadow -Wconversion
    $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes>
    $<$<BOOL:${LU_WERROR}>:-Werror>)

if(LUCID_SANITIZE)
    add_compile_options(-fsanitize=${LUCID_SANITIZE} -fno-sanitize-recover=all
                        -fno-omit-frame-pointer)
    add_link_options(-fsanitize=${LUCID_SANITIZE})
endif()
