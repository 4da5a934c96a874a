"""The C program and the Python runtime on ARM64, in qemu: they write the same texts as on this machine."""

import json
import os
import subprocess
import sys

import numpy as np
import paths
import pytest
from devices import need, need_program
from hamlet import TEXT, prompts

from keras_seq_export import LiteRTSampler


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with Debian's and PyPI's packages for ARM64."""
    need_program("qemu-aarch64-static", "qemu-user-static")
    need_program("apt-get", "apt")
    root = tmp_path_factory.mktemp("arm64") / "root"
    environment = {**os.environ, "PYTHON": sys.executable}
    made = subprocess.run(
        [paths.SUPPORT / "arm64_root.sh", root], env=environment, capture_output=True, text=True, check=False
    )
    need(made.returncode == 0, f"needs packages of Debian 12 and PyPI for ARM64: {made.stderr[-300:]}")
    return root


@pytest.fixture(scope="module")
def model(small_tflite):
    return small_tflite()


@pytest.fixture(scope="module")
def texts(model):
    sampler = LiteRTSampler(model)
    return [sampler.sample(prompt, **options) for prompt, options in prompts()]


def on_arm64(root, *command, **options):
    qemu = ["qemu-aarch64-static", "-cpu", "cortex-a76", "-L", root]
    return subprocess.run([*qemu, *command], capture_output=True, check=True, timeout=300, **options).stdout.decode()


def test_python_writes_the_same_texts(root, model, texts):
    code = (
        "import json, platform, sys; from keras_seq_export import LiteRTSampler; assert platform.machine() == 'aarch64'; "
        "sampler = LiteRTSampler(sys.argv[1]); "
        "print(json.dumps([sampler.sample(prompt, **options) for prompt, options in json.load(sys.stdin)]))"
    )
    path = os.pathsep.join(map(str, (root / "wheels", paths.REPOSITORY, paths.REPOSITORY / "export")))
    python = ["-E", f"PYTHONPATH={path}", "-E", "PYTHONDONTWRITEBYTECODE=1", root / "usr/bin/python3.11"]
    asked = json.dumps(list(prompts())).encode()
    assert json.loads(on_arm64(root, *python, "-c", code, model, input=asked)) == texts


@pytest.fixture(scope="module")
def arm64_program(root, native_sources, tmp_path_factory):
    need_program("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
    folder = tmp_path_factory.mktemp("arm64_program")
    native_sources(folder)
    libraries = root / "usr/lib/aarch64-linux-gnu"
    # Debian's multiarch headers are beside those of the cross compiler.
    flags = f"-O2 -isystem {root}/usr/include -isystem {root}/usr/include/aarch64-linux-gnu -L{libraries}"
    litert = root / "wheels" / "ai_edge_litert"
    command = ["make", "-s", "keras_seq", "CC=aarch64-linux-gnu-gcc", f"CFLAGS={flags}", f"LITERT={litert}"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "keras_seq"


def test_c_writes_the_same_texts(root, model, texts, arm64_program):
    for (prompt, options), text in zip(prompts(), texts, strict=True):
        settings = [f"--{name}={value}" for name, value in options.items()]
        assert on_arm64(root, arm64_program, model, f"--prompt={prompt}", *settings) == prompt + text + "\n"


def test_c_writes_the_same_text_with_what_was_learned_on_either(root, arm64_program, small_tflite, tmp_path):
    """What is learned there differs by rounding; a file of it gives the same text on both."""
    model, sampler = small_tflite(learn=True), LiteRTSampler(small_tflite(learn=True))
    (tmp_path / "text").write_text(TEXT[:200])
    learn = [f"--learn={tmp_path / 'text'}", f"--save_learned={tmp_path / 'there'}"]
    assert on_arm64(root, arm64_program, model, *learn) == ""
    report = sampler.learn(TEXT[:200])
    sampler.save_learned(tmp_path / "here")
    assert report.tokens == 200
    for name in ("there", "here"):
        sampler.load_learned(tmp_path / name)
        flags = [f"--learned={tmp_path / name}", "--prompt=To be", "--seed=1"]
        assert on_arm64(root, arm64_program, model, *flags) == "To be" + sampler.sample("To be", seed=1) + "\n"
    contents = [(tmp_path / name).read_bytes() for name in ("there", "here")]
    there, here = (np.frombuffer(content[56:2056], np.float32) for content in contents)
    np.testing.assert_allclose(there, here, atol=0.02)
