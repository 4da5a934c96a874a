"""`keras-seq benchmark`: the options of each subject, and its two ways to print."""

import inspect
import json
import math
from dataclasses import asdict

import pytest

from keras_seq.benchmarks import (
    corpus,
    distribution,
    first_fit,
    identity,
    layer,
    learning,
    litert_decode,
    litert_sample,
    long_memory,
    serving,
)
from keras_seq.benchmarks.learning_gains import Readings
from keras_seq.benchmarks.litert_sample import SampleTime
from keras_seq.cli import benchmark
from keras_seq.generation.sampling import SamplingSettings
from keras_seq_export.requests import GenerateRequest
from keras_seq_export.tflite.learning.learner import LearningReport

SUBJECTS = ("layer", "decode", "sample", "serve", "corpus", "distribute", "identity", "memory", "learning")


@pytest.mark.parametrize("subject", SUBJECTS)
def test_each_option_has_a_help_text_with_its_default(subject, run_cli, tmp_path):
    answer = run_cli("benchmark", subject, "--help", cwd=tmp_path)
    assert answer.returncode == 0
    described = answer.stdout.partition("show this help message and exit")[2].split("\n  --")[1:]
    assert described
    for option in described:
        assert "default: " in option or "(required)" in " ".join(option.split()), option


@pytest.mark.parametrize(
    ("subject", "function", "names"),
    [
        ("layer", layer.benchmark_layer, ["rounds"]),
        ("layer", first_fit.benchmark_first_fit, ["rounds"]),
        ("decode", litert_decode.benchmark_decode, ["rounds"]),
        ("sample", litert_sample.benchmark_sample, ["quantization", "rounds"]),
        ("serve", serving.benchmark_serve, ["rounds"]),
        ("corpus", corpus.benchmark_corpus, ["megabytes", "steps"]),
        ("distribute", distribution.benchmark_distribute, ["steps"]),
        ("identity", identity.compare_runtimes, ["texts", "max_tokens"]),
        ("learning", learning.benchmark_learning, ["rounds"]),
        ("memory", long_memory.benchmark_memory, ["distances", "seed"]),
    ],
)
def test_the_defaults_in_the_help_texts_are_those_of_the_functions(subject, function, names, run_cli, tmp_path):
    printed = " ".join(
        run_cli("benchmark", subject, "--help", cwd=tmp_path).stdout.partition("show this help")[2].split()
    )
    for name in names:
        default = inspect.signature(function).parameters[name].default
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else f"{default}"
        described = printed.partition(f" --{name} ")[2].partition(" --")[0]
        assert f"(default: {shown})" in described, (name, described)


def test_rows_are_printed_as_a_table_or_as_json(monkeypatch, run_cli, tmp_path):
    rows, given = [SampleTime(65, "decode", 10.0, 1.0), SampleTime(65, "sample, all filters off", 25.0, 2.5)], []

    def benchmark_sample(**options):
        given.append(options)
        return rows

    monkeypatch.setattr(litert_sample, "benchmark_sample", benchmark_sample)
    answer = run_cli("benchmark", "sample", cwd=tmp_path)
    assert answer.returncode == 0
    assert [line.split()[-1] for line in answer.stdout.splitlines()] == ["decodes", "1.00x", "2.50x"]
    answer = run_cli("benchmark", "sample", "--json", "--rounds=3", "--quantization=none", cwd=tmp_path)
    assert [SampleTime(**row) for row in json.loads(answer.stdout)] == rows
    assert given == [{}, {"quantization": "none", "rounds": 3}]


def test_figures_of_every_shape_are_printed_as_json(monkeypatch, run_cli, tmp_path):
    """Rows in rows, an infinite number, and a mapping."""
    request = GenerateRequest("to be", 3, 1, SamplingSettings(top_k=5))
    difference = identity.Difference(request, "LiteRT", 2, "a", "b", math.inf)
    comparison = identity.RuntimeComparison(1, 3, ["LiteRT"], [difference])
    assert benchmark._plain(comparison) == {
        "texts": 1,
        "tokens": 3,
        "runtimes": ["LiteRT"],
        "differences": [
            difference._asdict()
            | {"distance": None, "request": request._asdict() | {"settings": asdict(request.settings)}}
        ],
    }
    report = LearningReport(tokens=100, nats_per_token=1.5, model_nats_per_token=2.0, weight=0.5)
    measured = [("lacking", []), ("gains", [Readings("int8", "ann", {100: report})])]
    monkeypatch.setattr(learning, "benchmark_learning", lambda paths, texts, **options: iter(measured))
    (tmp_path / "ann.txt").write_text("a text")
    answer = run_cli("benchmark", "learning", "--model=any.tflite", "--corpus=ann.txt", "--json", cwd=tmp_path)
    gains = [{"model": "int8", "text": "ann", "reports": {"100": asdict(report)}}]
    assert json.loads(answer.stdout) == {"lacking": [], "gains": gains}


def test_files_of_one_name_are_different_authors(monkeypatch, run_cli, tmp_path):
    given = []

    def benchmark_learning(paths, texts, **options):
        given.append(dict(texts))
        return []

    monkeypatch.setattr(learning, "benchmark_learning", benchmark_learning)
    corpora = []
    for author in ("ann", "bob"):
        (tmp_path / author).mkdir()
        (tmp_path / author / "letters.txt").write_text(author)
        corpora.append(f"--corpus={author}/letters.txt")
    for chosen in (corpora, corpora[:1]):
        assert run_cli("benchmark", "learning", "--model=any.tflite", *chosen, cwd=tmp_path).returncode == 0
    assert given == [{"ann/letters.txt": "ann", "bob/letters.txt": "bob"}, {"letters": "ann"}]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["serve", "--rounds=0"], 1, "--rounds must be a positive integer. Received: --rounds=0"),
        (["corpus", "--megabytes=0"], 1, "--megabytes must be a positive integer. Received: --megabytes=0"),
        (["distribute", "--steps=0"], 1, "--steps must be a positive integer. Received: --steps=0"),
        (["distribute"], 1, "If the network is closed to strangers, confirm it with --trusted_network"),
        (["identity", "--run=fox", "--texts=0"], 1, "--texts must be a positive integer. Received: --texts=0"),
        (
            ["learning", "--run=fox", "--corpus=fox.txt", "--rounds=0"],
            1,
            "--rounds must be a positive integer. Received",
        ),
        (["learning", "--corpus=fox.txt"], 2, "one of the arguments --run --model is required"),
        (["learning", "--model=fox/export/fox.learn.tflite", "--corpus=fox.txt"], 1, "must have 30,000 characters"),
        (["learning", "--model=fox/export/fox.tflite", "--corpus=fox.txt"], 1, "keras-seq export --learn"),
        (["sample", "--quantization=int3"], 2, "--quantization: invalid choice"),
        (["nonsense"], 2, "nonsense"),
        ([], 2, "SUBJECT"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_bad_options_are_rejected_in_one_sentence(arguments, code, words, folder, run_cli):
    answer = run_cli("benchmark", *arguments, cwd=folder)
    assert answer.returncode == code
    message = answer.stderr.splitlines()[-1]
    assert message.startswith("keras-seq")
    assert words in message
