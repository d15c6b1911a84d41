# All presets as one test run: `make test` copies this file to build/test/CTestTestfile.cmake and
# runs ctest there. A build that is missing is a test that fails.
foreach(preset release debug clang asan tsan)
    if(EXISTS "${CMAKE_CURRENT_LIST_DIR}/../${preset}/CTestTestfile.cmake")
        subdirs("../${preset}")
    else()
        add_test("${preset}/NOT_BUILT" cmake -E false)
    endif()
endforeach()
