#!/usr/bin/env bash
# Installs the Debian packages that are missing, with apt as root or through sudo; otherwise prints the line to run.
set -eu
packages="gcc make pkg-config libc6-dev libopenblas-dev libhdf5-dev hdf5-tools libpcre2-dev libutf8proc-dev
          libjansson-dev libssl-dev libcmocka-dev gnuplot-nox fonts-dejavu-core bats python3 python3-pip unzip
          strace util-linux binutils"
[ "${1:-}" = lint ] && packages="$packages clang clang-format clang-tidy cppcheck"
[ "${1:-}" = fuzz ] && packages="$packages clang libclang-rt-dev llvm afl++"
if ! command -v dpkg-query >/dev/null; then
    echo "not a Debian system: install by your own means what corresponds to:" $packages
    exit 0
fi
missing=$(for p in $packages; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || echo "$p"
done | tr '\n' ' ')
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ]; then
    sudo=
elif sudo -n true 2>/dev/null; then
    sudo=sudo
else
    echo "missing packages; run this line and start again:" >&2
    echo "    sudo apt-get update && sudo apt-get install -y $missing" >&2
    exit 1
fi
echo "installing: $missing"
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
