# All presets as one test run: `make test` copies this file to build/test/CTestTestfile.cmake and
# runs ctest there. A build that is missing is a test that fails.
file(REAL_PATH .. build) # ctest runs in build/test, and sets no variables that tell
foreach(preset release debug clang asan tsan aarch64)
    if(EXISTS "${build}/${preset}/CTestTestfile.cmake")
        subdirs("${build}/${preset}")
    else()
        add_test("${preset}/NOT_BUILT" cmake -E false)
    endif()
endforeach()
