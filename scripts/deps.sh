#!/bin/sh
# Install the Debian packages that a part of the project needs, and only those that are missing.
#
#   scripts/deps.sh GROUP...          install what is missing (as root)
#   scripts/deps.sh --list GROUP...   print the packages of the groups
#
# Groups: build, run, test, bench, cross (other processors and libcs), kernels (other kernels),
# deb (Debian packages).
# Nothing is done, and no network used, when all are there.
# Services that come with a package (redis, nginx) are installed but not started.
#
# shellcheck disable=SC2086  # lists of packages are split into words on purpose
set -eu

build="gcc g++ libc6-dev binutils cmake ninja-build make pkg-config libjansson-dev libcmocka-dev
       libzstd-dev libjs-chart.js"
run="python3-minimal python3 sqlite3"
test="clang clang-format-14 libclang-rt-14-dev valgrind libc6-dbg gdb mandoc strace
      python3-minimal python3 git procps util-linux diffutils
      libjemalloc2 libmimalloc2.0 libtcmalloc-minimal4 libgoogle-perftools4
      lua5.4 python3-matplotlib gnuplot-nox
      chromium chromium-driver python3-selenium fonts-dejavu-core
      $(grep -v '^#' "$(dirname "$0")/../tests/real/packages.txt")"
cross="gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6-dev-arm64-cross musl-tools lld"
kernels="qemu-system-x86 qemu-system-arm"
deb="debhelper lintian dpkg-dev fakeroot"
bench="libjemalloc2 libmimalloc2.0 libtcmalloc-minimal4 valgrind libc6-dbg strace
       python3-minimal python3 python3-matplotlib sqlite3 perl ruby lua5.4 z3 git xz-utils
       redis-server redis-tools nginx apache2-utils bash coreutils grep sed"

say() {
    echo "deps: $*" >&2
}

list_only=no
wanted=""
for argument in "$@"; do
    case $argument in
    --list) list_only=yes ;;
    build) wanted="$wanted $build" ;;
    run) wanted="$wanted $run" ;;
    test) wanted="$wanted $test" ;;
    bench) wanted="$wanted $bench" ;;
    cross) wanted="$wanted $cross" ;;
    kernels) wanted="$wanted $kernels" ;;
    deb) wanted="$wanted $deb" ;;
    *)
        say "unknown group '$argument' (build, run, test, bench, cross, kernels, deb)"
        exit 2
        ;;
    esac
done
wanted=$(printf '%s\n' $wanted | sort -u)

if [ "$list_only" = yes ]; then
    echo "$wanted"
    exit 0
fi
if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    say "not a Debian system; nothing was checked. Needed, by their Debian names:" $wanted
    exit 0
fi

missing_packages() {
    for package in $wanted; do
        status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$status" = installed ] || echo "$package"
    done
}

missing=$(missing_packages)
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    say "these packages are missing; install them as root:"
    say "  apt-get install" $missing
    exit 1
fi

# Packages ask policy-rc.d whether they may start their service: say no while we install, unless
# the machine has a policy of its own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

export DEBIAN_FRONTEND=noninteractive
quiet="-qq -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0"
say "installing" $missing
apt-get $quiet update >&2
apt-get $quiet install -y --no-install-recommends $missing >&2

missing=$(missing_packages)
if [ -n "$missing" ]; then
    say "could not install:" $missing
    exit 1
fi
