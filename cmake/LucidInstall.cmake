# What `cmake --install` puts under the prefix: the library in three forms, the header, the command
# with the classic allocators that it preloads, the manual pages and documents, and what
# find_package(lucid) and pkg-config need to find them.

include(CMakePackageConfigHelpers)

install(TARGETS lucid lucid_static EXPORT lucidTargets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES "${lucid_object}" DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES include/lucid/lucid.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/lucid)
install(FILES man/lucid.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES man/liblucid.3 DESTINATION ${CMAKE_INSTALL_MANDIR}/man3)
# Laid out as in the sources, so that the links between them lead somewhere.
install(FILES README.md CHANGELOG.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY docs DESTINATION ${CMAKE_INSTALL_DOCDIR} FILES_MATCHING PATTERN "*.md")
install(DIRECTORY bench/results DESTINATION ${CMAKE_INSTALL_DOCDIR}/bench
        FILES_MATCHING PATTERN "*.md" PATTERN "*.svg")
install(FILES traces/README.md DESTINATION ${CMAKE_INSTALL_DOCDIR}/traces)

if(TARGET lucid_cmd)
    install(TARGETS lucid_cmd RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
    install(TARGETS lucid_record LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/lucid)
    install(TARGETS lucid_probe RUNTIME DESTINATION ${CMAKE_INSTALL_LIBDIR}/lucid) # for the lab
    if(lucid_classic_preloads)
        install(TARGETS ${lucid_classic_preloads}
                LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/lucid)
    endif()
endif()

set(lucid_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/lucid)
configure_package_config_file(cmake/lucidConfig.cmake.in "${PROJECT_BINARY_DIR}/lucidConfig.cmake"
                              INSTALL_DESTINATION ${lucid_package_dir})
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/lucidConfigVersion.cmake"
                                 COMPATIBILITY SameMinorVersion)
install(EXPORT lucidTargets NAMESPACE lucid:: DESTINATION ${lucid_package_dir})
install(FILES "${PROJECT_BINARY_DIR}/lucidConfig.cmake"
              "${PROJECT_BINARY_DIR}/lucidConfigVersion.cmake"
        DESTINATION ${lucid_package_dir})

# The tree may be moved after it was installed: the .pc file finds the prefix from its own place.
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}" OR IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
    set(pc_prefix "${CMAKE_INSTALL_PREFIX}")
    set(pc_libdir "${CMAKE_INSTALL_FULL_LIBDIR}")
    set(pc_includedir "${CMAKE_INSTALL_FULL_INCLUDEDIR}")
else()
    file(RELATIVE_PATH up "/p/${CMAKE_INSTALL_LIBDIR}/pkgconfig" /p)
    set(pc_prefix "\${pcfiledir}/${up}")
    set(pc_libdir "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
    set(pc_includedir "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
configure_file(cmake/lucid.pc.in "${PROJECT_BINARY_DIR}/lucid.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/lucid.pc" DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
