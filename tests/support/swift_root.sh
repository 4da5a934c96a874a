#!/bin/bash
# Makes ROOT, a folder with the Swift compiler of Debian 13, whose programs run on Debian 12:
#     unshare -m sh -c 'mount -t proc proc ROOT/proc && exec chroot ROOT /usr/bin/swiftc ...'
# It takes a download of 540 MB and a minute, and must be run as root.
set -euo pipefail
target=$(realpath -m "${1:?usage: swift_root.sh ROOT}")
root=$target.part # renamed when complete
rm -rf "$root"
work=$root/work
mkdir -p "$root"/{proc,dev,tmp} "$work"/{lists/partial,archives/partial,sources}

# An apt with its own lists of Debian 13, from the mirror of this machine, so that nothing of it is installed here.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 '/debian/$')
printf 'Types: deb\nURIs: %s\nSuites: trixie\nComponents: main\nSigned-By: %s\n' "$mirror" \
    /usr/share/keyrings/debian-archive-keyring.gpg >"$work/sources/trixie.sources"
apt=(apt-get -qq -o APT::Sandbox::User= -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/sources"
    -o Dir::State="$work" -o Dir::State::status=/dev/null -o Dir::Cache="$work")
"${apt[@]}" update
"${apt[@]}" -y -d --no-install-recommends install swiftlang libstdc++-14-dev libc6-dev
for link in bin sbin lib lib64; do ln -s "usr/$link" "$root/$link"; done
# Without the debugger, the indexer, the package manager and other systems' tools, which take most of the space.
unused=(--exclude='*lldb*' --exclude='*sourcekit*' --exclude='*libLTO*' --exclude='*swift_static*' --exclude='*/share/doc/*'
    --exclude='*/bin/clangd' --exclude='*/bin/docc' --exclude='*/bin/swift-package' --exclude='*/bin/swift-format')
for deb in "$work"/archives/*.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root" --keep-directory-symlink "${unused[@]}"; done

rm -r "$work"
mv -T "$root" "$target"
