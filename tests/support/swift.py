"""Compiles Swift, with the compiler of Debian 13 in a folder of its own."""

import os
import shutil
import subprocess

import paths
from devices import need, need_program
from kit_process import write_code_blocks

IOS = paths.REPOSITORY / "export" / "ios"
STAND_INS = ("Compression", "CryptoKit", "LiteRT", "TensorFlowLite", "SwiftUI")
_IN_ROOT = 'mount -t proc proc "$0/proc" && exec chroot "$0" /usr/bin/swiftc "$@"'


def root_of(made_once):
    """Returns the folder with the compiler."""
    need(
        os.geteuid() == 0,
        "needs a compiler for Swift in a folder that only root can change into: run the tests as root",
    )
    need_program("unshare", "util-linux")
    need_program("apt-get", "apt")

    def make(folder):
        command = ["bash", paths.SUPPORT / "swift_root.sh", folder / "root"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        need(done.returncode == 0, f"needs the package swiftlang of Debian 13: {done.stderr[-300:]}")
        return folder / "root"

    return made_once("swift", make)


def swiftc(root, *arguments):
    """Runs the compiler in the folder `/build` of its root; warnings are errors."""
    command = ["unshare", "-m", "sh", "-c", _IN_ROOT, root, "-swift-version", "5", "-warnings-as-errors", *arguments]
    environment = {"PATH": os.environ["PATH"], "HOME": "/tmp"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def server_command(made_once):
    """Compiles export/ios with the program that answers its tests; returns the command that starts it."""
    root = root_of(made_once)

    def make(folder):
        build = root / "build"
        shutil.rmtree(build, ignore_errors=True)
        shutil.copytree(paths.SUPPORT / "ios", build / "tests")
        shutil.copytree(IOS / "Sources" / "KerasSeq", build / "kit")
        for name in STAND_INS:
            module = ["-emit-module", "-emit-module-path", f"/build/{name}.swiftmodule", "-module-name", name]
            swiftc(root, "-parse-as-library", *module, "-c", f"/build/tests/{name}.swift", "-o", f"/build/{name}.o")
        sources = sources_of(root, "kit")
        of_kit = ["-wmo", "-module-name", "KerasSeq", "-I", "/build", *sources]
        # LiteRT comes first in apps that have both. This pass compiles the calls of TensorFlow Lite.
        swiftc(root, "-typecheck", "-D", "WITHOUT_LITERT", *of_kit)
        objects = [f"/build/{name}.o" for name in STAND_INS[:3]]
        module = ["-emit-module", "-emit-module-path", "/build/KerasSeq.swiftmodule"]
        swiftc(root, "-emit-executable", *module, *of_kit, "/build/tests/Server.swift", *objects, "-o", "/build/server")
        apps = write_code_blocks(IOS / "README.md", "import KerasSeq", build, ".swift")
        app = ["-parse-as-library", "-module-name", "App", "-I", "/build"]
        swiftc(root, "-typecheck", *app, *(f"/build/{file.name}" for file in apps))
        shutil.copy(build / "server", folder / "server")
        return folder / "server"

    program = made_once("swift_server", make)
    libraries = f"{root}/usr/lib/x86_64-linux-gnu:{root}/usr/libexec/swift/lib/swift/linux"
    return [root / "lib64" / "ld-linux-x86-64.so.2", "--library-path", libraries, program]


def sources_of(root, folder):
    """Returns the paths of source files as the compiler sees them."""
    return [f"/build/{folder}/{file.name}" for file in sorted((root / "build" / folder).glob("*.swift"))]
