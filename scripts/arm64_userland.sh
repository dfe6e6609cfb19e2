#!/usr/bin/env bash
# Make a 64-bit Arm user land in FOLDER: Debian 12 with Python 3.11 for arm64, and QEMU 10 from Debian 13 (QEMU 7.2, Debian 12's
# own, crashes when onnxruntime is imported). One program runs at a time, in an emulator that takes its libraries from
# FOLDER/root: no chroot, no binfmt_misc. Only mmdebstrap needs to be installed.
#
#     scripts/arm64_userland.sh FOLDER
#     CPU=cortex-a72 FOLDER/root/usr/bin/python3 -c 'import platform; print(platform.machine())'
#
# CPU is one of QEMU's: cortex-a72 (Raspberry Pi 4), cortex-a76 (Raspberry Pi 5), max.
set -euo pipefail
folder=$(realpath -m "$1")
mkdir -p "$folder"
command -v mmdebstrap >/dev/null || { echo "mmdebstrap is missing: apt-get install mmdebstrap debian-archive-keyring" >&2; exit 4; }

# The mirror that this machine's apt uses; where it uses none of Debian, mmdebstrap's own.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -E '/debian/?$' | sort -u | head -n 1 || true)

extract() { # NAME SUITE ARCHITECTURE PACKAGES
    if [ ! -e "$folder/$1.complete" ]; then
        rm -rf "${folder:?}/$1"
        mmdebstrap --quiet --variant=extract --architectures="$3" --include="$4" "$2" "$folder/$1" ${mirror:+"$mirror"}
        touch "$folder/$1.complete"
    fi
}
extract root bookworm arm64 python3.11,libpython3.11-stdlib,libstdc++6,libgcc-s1,libc6,zlib1g,libexpat1,libffi8,libssl3
extract qemu trixie "$(dpkg --print-architecture)" qemu-user
find "$folder/qemu" -type f ! -name qemu-aarch64 -delete # it is linked statically; the other emulators take 400 MB

# The program takes the name by which it was started, so that a copy of this script is the Python of a virtual environment.
cat >"$folder/root/usr/bin/python3" <<RUN
#!/bin/sh
export QEMU_CPU="\${CPU:-cortex-a72}"
exec "$folder/qemu/usr/bin/qemu-aarch64" -0 "\$0" -L "$folder/root" "$folder/root/usr/bin/python3.11" "\$@"
RUN
chmod +x "$folder/root/usr/bin/python3"
