"""`collectives` on one device and the hash of the code; test_distributed_fit.py tests them between real workers."""

from pathlib import Path

import keras_seq
from keras_seq import distribution
from keras_seq.distribution.collectives import any_worker, code_sha256, require_same, wait_for_all


def test_one_device_agrees_with_itself():
    strategy = distribution.strategy("mirrored", ["CPU:0"])
    require_same(strategy, {"vocabulary": "x"})
    wait_for_all(strategy)
    assert any_worker(strategy, True)
    assert not any_worker(strategy, False)


def test_the_hash_of_the_code_includes_all_folders(monkeypatch):
    read = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or read_bytes(path))
    assert len(code_sha256.__wrapped__()) == 64
    package = Path(keras_seq.__file__).parent
    assert {package / "errors.py", package / "layers" / "gru.py", package / "cli" / "main.py"} <= set(read)
