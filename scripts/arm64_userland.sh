#!/usr/bin/env bash
# Make a 64-bit Arm user land in FOLDER, without privileges other than those of mmdebstrap: Debian 12 with Python 3.11 for arm64, and
# QEMU 10 from Debian 13 (QEMU 7.2, Debian 12's own, crashes when onnxruntime is imported). One program runs at a time, in an
# emulator that takes its libraries from FOLDER/root: no chroot, no binfmt_misc.
#
#     scripts/arm64_userland.sh FOLDER
#     CPU=cortex-a72 FOLDER/python -c 'import platform; print(platform.machine())'
#
# Packages for it go into FOLDER/site. CPU is one of QEMU's: cortex-a72 (Raspberry Pi 4), cortex-a76 (Raspberry Pi 5), max.
set -euo pipefail
folder=$(realpath -m "$1")
mkdir -p "$folder/site"

if ! command -v mmdebstrap >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends mmdebstrap
fi
# The mirror that this machine's apt uses; where it uses none of Debian, mmdebstrap's own.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -E '/debian/?$' | sort -u | head -n 1 || true)

extract() { # NAME SUITE ARCHITECTURE PACKAGES
    if [ ! -e "$folder/$1.complete" ]; then
        rm -rf "${folder:?}/$1"
        mmdebstrap --quiet --mode=root --variant=extract --architectures="$3" --include="$4" "$2" "$folder/$1" ${mirror:+"$mirror"}
        touch "$folder/$1.complete"
    fi
}
extract root bookworm arm64 python3.11,libpython3.11-stdlib,libstdc++6,libgcc-s1,libc6,zlib1g,libexpat1,libffi8,libssl3
extract qemu trixie "$(dpkg --print-architecture)" qemu-user,libc6

# QEMU runs with the libraries of its own Debian, which are newer than the machine's may be.
loader=$(find "$folder/qemu/" -name 'ld-linux-*.so.*' -not -type l | head -n 1)
cat >"$folder/python" <<RUN
#!/usr/bin/env bash
export PYTHONPATH="$folder/site\${PYTHONPATH:+:\$PYTHONPATH}" PYTHONDONTWRITEBYTECODE=1 QEMU_CPU="\${CPU:-cortex-a72}"
exec "$loader" --library-path "$(dirname "$loader")" "$folder/qemu/usr/bin/qemu-aarch64" -L "$folder/root" "$folder/root/usr/bin/python3.11" "\$@"
RUN
chmod +x "$folder/python"
