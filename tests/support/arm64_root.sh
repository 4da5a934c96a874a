#!/bin/bash
# Makes ROOT, a folder with which Python 3.11, LiteRT and C programs for ARM64 run under qemu-user on x86-64 Debian 12:
#     qemu-aarch64-static -cpu cortex-a76 -L ROOT -E PYTHONPATH=ROOT/wheels ROOT/usr/bin/python3.11 ...
# PYTHON is a Python with pip; the versions of its packages are used.
set -euo pipefail
target=$(realpath -m "${1:?usage: arm64_root.sh ROOT}")
python=${PYTHON:-python3}
root=$target.part # renamed when complete
rm -rf "$root"
work=$root/work
mkdir -p "$root"/{proc,wheels} "$work"/{debs,wheels,apt/lists/partial,apt/archives/partial}

# An apt with its own lists, so that arm64 is not added to the architectures of this machine.
apt=(apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o APT::Sandbox::User=
    -o Dir::State="$work/apt" -o Dir::State::status=/dev/null -o Dir::Cache="$work/apt")
"${apt[@]}" update
(cd "$work/debs" && "${apt[@]}" download libc6 libgcc-s1 libstdc++6 zlib1g zlib1g-dev \
    python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libexpat1 libffi8 libssl3 libbz2-1.0 liblzma5)
for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$root"; done
# The link in the package is absolute: the linker would follow it out of ROOT.
ln -sf ../../../lib/aarch64-linux-gnu/libz.so.1 "$root/usr/lib/aarch64-linux-gnu/libz.so"

# LiteRT detects the processor from /proc/cpuinfo and crashes if that describes an x86. Unless ROOT has this file, qemu
# 7.2 shows the machine's own. This one describes a Cortex-A76, as qemu's option -cpu does.
for core in 0 1; do
    printf '%s\t: %s\n' processor $core BogoMIPS 50.00 \
        Features 'fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp' \
        'CPU implementer' 0x41 'CPU architecture' 8 'CPU variant' 0x3 'CPU part' 0xd0b 'CPU revision' 1
    echo
done >"$root/proc/cpuinfo"

# LiteRT and its requirements. pip evaluates their markers for this machine, which makes no difference here.
"$python" -m pip freeze --exclude-editable >"$work/versions.txt"
"$python" -m pip -qq download -d "$work/wheels" -c "$work/versions.txt" --only-binary=:all: --implementation cp \
    --python-version 3.11 --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
    --platform manylinux2014_aarch64 ai-edge-litert
for wheel in "$work"/wheels/*.whl; do "$python" -m zipfile -e "$wheel" "$root/wheels"; done

rm -r "$work"
mv -T "$root" "$target"
