"""Exports of C headers: what is written, what is refused, and that nothing is left behind."""

import dataclasses
import re
import subprocess

import keras
import micro_session as c
import numpy as np
import pytest
from devices import need_program
from hamlet import TEXT, small_model

import keras_seq as ks
from keras_seq.errors import ConfigError
from keras_seq.generation.integer_sampling import IntegerSettings
from keras_seq_export import ExportError, export_c
from keras_seq_export.micro import export
from keras_seq_export.micro import header as headers
from keras_seq_export.micro.names import c_name
from keras_seq_export.tflite.bundle import read_bundle
from keras_seq_export.tflite.decoder import LiteRTDecoder


@pytest.fixture
def take_exported(small_tflite, monkeypatch):
    """`take_exported(level="word")` makes exports take the integer .tflite of a small model."""

    def take(**options):
        path = small_tflite(quantization="integer", **options)

        def copied(model, vocabulary, target, *rest, **named):
            target.write_bytes(path.read_bytes())
            return {"format": "tflite", "bytes": 1, "quantization": "integer"}

        monkeypatch.setattr(export, "export_tflite", copied)
        return read_bundle(path).vocabulary

    return take


def test_the_header_and_its_report(tmp_path, objects):
    model, vocabulary = small_model(units=(24,))
    path = tmp_path / "Small model.h"
    options = {"sampling": {"temperature": 0.7, "top_k": 5, "bias": {"e": 1.0}}, "held_out": TEXT, "max_loss": 1.0}
    report = export_c(model, vocabulary, path, card={"license": "CC0-1.0"}, **options)
    assert report["format"] == "c"
    assert report["name"] == "small_model"
    assert report["quantization"] == "integer"
    assert report["quality"]["text"] == "held_out"
    assert report["program_steps"] == 400
    assert report["flash_bytes"] < 20_000
    assert not {"bytes", "operators", "stored_bytes", "state"} & report.keys()
    text = path.read_text()
    assert "license CC0-1.0" in text.partition("\n")[0]
    settings = IntegerSettings(round(0.7 * 2**24), 5)
    assert f"SMALL_MODEL_SETTINGS {{UINT64_C({settings.temperature}), 5u, 16777216u, 0u}}" in text
    assert f"#define SMALL_MODEL_MEMORY {report['memory_bytes']} " in text
    assert (tmp_path / "Small model.h.report.json").is_file()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["Small model.h", "Small model.h.report.json"]
    with pytest.raises(ExportError, match=r"Small model\.h exists"):
        export_c(model, vocabulary, path)
    # The bytes of flash are those that a compiler makes of the header.
    (tmp_path / "a.c").write_text(
        '#include "Small model.h"\nextern const ks_micro_model *used;\nconst ks_micro_model *used = &small_model;\n'
    )
    subprocess.run(["cc", *c.STRICT, f"-I{c.MICRO}", f"-I{tmp_path}", "-c", "a.c"], cwd=tmp_path, check=True)
    sizes = subprocess.run(["size", "a.o"], cwd=tmp_path, capture_output=True, check=True, text=True).stdout.split()
    assert abs(int(sizes[6]) + int(sizes[7]) - report["flash_bytes"]) < 1000


@pytest.mark.parametrize("level", ["char", "word", "whitespace"])
def test_the_sizes_of_the_header_are_enough(level, take_exported, objects, tmp_path):
    vocabulary = take_exported(level=level)
    export_c(None, vocabulary, tmp_path / "model.h")
    text = (tmp_path / "model.h").read_text()
    memory, workspace = (int(re.search(rf"#define MODEL_{name} (\d+)", text)[1]) for name in ("MEMORY", "SUGGEST"))
    session = c.Session(tmp_path, objects, text, "model")
    answer = session.run(c.suggest("To be, ", workspace=workspace), memory=memory)[1]
    assert answer.status == c.OK
    needed = session.run(c.suggest("To be, ", workspace=0))[1].detail
    assert needed <= workspace <= 1.2 * needed + 500


def test_nothing_is_left_behind_by_an_error(tmp_path):
    vocabulary = ks.Vocabulary.from_text(TEXT)
    tokens = keras.Input((None,), dtype="int32")
    values = keras.layers.Embedding(len(vocabulary), 8)(tokens)
    values = keras.layers.LayerNormalization()(keras.layers.GRU(8, return_sequences=True)(values))
    model = keras.Model(tokens, keras.layers.Dense(len(vocabulary))(values))
    with pytest.raises(ExportError, match="integer"):
        export_c(model, vocabulary, tmp_path / "model.h")
    with pytest.raises(ValueError, match=r"`path` must be the name of a header, which ends with \.h"):
        export_c(model, vocabulary, tmp_path / "model.c")
    with pytest.raises(ConfigError, match="repetition_penalty"):
        export_c(model, vocabulary, tmp_path / "model.h", sampling={"repetition_penalty": 1.2})
    assert not list(tmp_path.iterdir())


def test_a_program_that_differs_is_refused(take_exported, tmp_path, monkeypatch):
    vocabulary = take_exported()
    read = export.read_program

    def changed(*given):
        program = read(*given)
        number = next(i for i, one in enumerate(program.operators) if one.biases is not None)
        operator = program.operators[number]
        program.operators[number] = dataclasses.replace(operator, biases=operator.biases + 4096)
        return program

    monkeypatch.setattr(export, "read_program", changed)
    with pytest.raises(ExportError, match=r"the C decoder's program gives other integers than LiteRT: [0-9,]+ of "):
        export_c(None, vocabulary, tmp_path / "model.h")
    assert not list(tmp_path.iterdir())


def test_too_many_tokens_are_refused_before_any_work(monkeypatch, tmp_path):
    monkeypatch.setattr(headers, "MOST_TOKENS", 10)
    with pytest.raises(ExportError, match=r"the C decoder takes at most 10 tokens\. Received: "):
        export_c(None, ks.Vocabulary.from_text(TEXT), tmp_path / "model.h")


_C_NAMES = {
    "shakespeare": "shakespeare",
    "Über-Modell-2": "ber_modell_2",
    "3": "model_3",
    "int8.model": "int8_model",
    "384-units": "model_384_units",
    "_x": "x",
    "Model__A_": "model_a",
    "-": "model",
}


def test_names_in_c_are_those_of_the_makefile():
    need_program("make", "make")
    assert {name: c_name(name) for name in _C_NAMES} == _C_NAMES
    for name, expected in _C_NAMES.items():
        command = ["make", "-s", "--eval=shown:;@echo $(NAME)", f"MODEL=some-folder/{name}.h", "shown"]
        assert subprocess.run(command, cwd=c.MICRO, check=True, capture_output=True).stdout.decode() == f"{expected}\n"


_TAKEN = "int double Bool namespace null uint8_t size-t main memory print log stdio String ks_model keras_seq_micro_2"


@pytest.mark.parametrize("name", [*_TAKEN.split(), *sorted(path.stem for path in c.MICRO.glob("**/*.h"))])
def test_names_that_are_taken_are_refused_before_any_work(name, tmp_path):
    expected = r"`path` must be a name that is not one of C, C\+\+ or the decoder, such as shakespeare\.h"
    with pytest.raises(ValueError, match=expected):
        export_c(None, None, tmp_path / f"{name}.h")


def test_a_description_cannot_end_the_comment(take_exported, tmp_path, monkeypatch):
    take_exported()
    seen = headers._comment("a */ b /* c\n#error /*/ \u00fc")
    assert seen == "a * / b / * c #error / * / ?"
    program = tmp_path / "a.c"
    program.write_text(f"/* {seen} */\nextern int a;\n")
    subprocess.run(["cc", *c.STRICT, "-fsyntax-only", program], check=True)


def test_a_large_top_k_is_off(take_exported, tmp_path):
    vocabulary = take_exported(sampling={"top_k": 2**32 + 1})
    export_c(None, vocabulary, tmp_path / "model.h")
    assert f"MODEL_SETTINGS {{UINT64_C({2**24}), 0u, " in (tmp_path / "model.h").read_text()


@pytest.mark.parametrize("compiler", ["cc", "arm-none-eabi-gcc"])
def test_the_sizes_of_suggestions_are_those_of_the_decoder(compiler, tmp_path):
    need_program(compiler, compiler)
    sizes = f"sizeof(node) <= {headers._NODE} && ROOM == {headers._ROOM} && KS_MICRO_SEARCH_STEPS == {headers._SEARCH_STEPS}"
    program = tmp_path / "a.c"
    program.write_text(f'#include "suggest.c"\nextern char sizes[{sizes} ? 1 : -1];\n')
    subprocess.run([compiler, *c.STRICT, "-ffreestanding", f"-I{c.MICRO}", "-fsyntax-only", program], check=True)


def test_states_that_do_not_begin_at_zero(small_tflite, session):
    path = small_tflite(starting=True, quantization="integer")
    bundle, decoder = read_bundle(path), LiteRTDecoder(path)
    _, steps = export.translated(bundle, "model")
    assert steps == 400
    answers = session(export.planned(export.read_program(bundle.model, export._first_states(bundle.model)))).run("v\n")
    expected = np.concatenate([np.ravel(one) for one in decoder.initial_states()])
    assert np.any(expected)
    np.testing.assert_array_equal(answers[1].numbers, expected)


def test_a_model_of_frames(objects, tmp_path):
    """A sensor's model: the numbers of a frame are integers times the input's scale."""
    need_program("cc", "gcc")
    keras.utils.set_random_seed(1)
    frames = keras.Input((None, 6))
    values = keras.layers.GRU(12, return_sequences=True)(frames)
    model = keras.Model(frames, keras.layers.Dense(3)(values))
    report = export_c(model, None, tmp_path / "sensor.h", frame_range=4.0)
    text = (tmp_path / "sensor.h").read_text()
    assert "SENSOR_SETTINGS" not in text
    input_scale, output_scale = (
        float(re.search(rf"#define SENSOR_{name}_SCALE (\S+)", text)[1]) for name in ("INPUT", "OUTPUT")
    )
    given = np.random.default_rng(0).normal(size=(1, 20, 6)).astype(np.float32)
    session = c.Session(tmp_path, objects, text, "sensor")
    integers = np.clip(np.rint(given[0] / input_scale), -32768, 32767).astype(int)
    answers = session.run(
        *map(c.frame, integers), c.step(1), c.text("p", "a"), c.choose(), c.suggest(""), memory=report["memory_bytes"]
    )
    found = np.stack([one.numbers for one in answers[1:21]]) * output_scale
    np.testing.assert_allclose(found, model(given)[0], atol=0.03)
    assert [one.status for one in answers[21:]] == [c.NOT_OF_TEXT] * 4
