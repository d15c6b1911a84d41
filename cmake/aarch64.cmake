# Toolchain: Debian's cross compiler for arm64; the tests run in user-mode QEMU.
#
# Packages: scripts/deps.sh cross. What Debian has for arm64 only, and the QEMU of its backports
# (that of Debian 12 keeps a record of every page that is reserved: minutes for 1 TiB), is fetched
# and unpacked below build/downloads; nothing of it is installed (scripts/cross-packages).

set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)

set(LUCID_CROSS_ARCHITECTURE arm64) # in Debian's words
set(LUCID_CROSS_ROOT "${CMAKE_CURRENT_LIST_DIR}/../build/downloads/arm64")
set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu "${LUCID_CROSS_ROOT}")
set(LUCID_EMULATOR_ROOT "${CMAKE_CURRENT_LIST_DIR}/../build/downloads/qemu")
set(CMAKE_CROSSCOMPILING_EMULATOR "${LUCID_EMULATOR_ROOT}/usr/bin/qemu-aarch64")
set(LUCID_EMULATOR_PREFIX /usr/aarch64-linux-gnu)
set(ENV{PKG_CONFIG_LIBDIR} "${LUCID_CROSS_ROOT}/usr/lib/aarch64-linux-gnu/pkgconfig")
set(ENV{PKG_CONFIG_SYSROOT_DIR} "${LUCID_CROSS_ROOT}")
