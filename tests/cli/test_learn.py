"""`keras-seq learn`, and `--learned` of the commands that use what it writes."""

import pytest
from cli_files import TEXT

from keras_seq_export import LiteRTSampler
from keras_seq_export.learning_rule import RATE

MODEL = "fox/export/fox.learn.tflite"
# A text that the model has not seen, of the letters that it knows.
STORY = "my lazy fox had a big quiet zoo. five dogs jumped with joy over the box.\n" * 8


@pytest.fixture(scope="module")
def story(folder):
    """Writes the text; returns what the sampler of the package learns from it."""
    (folder / "story.txt").write_text(STORY)
    sampler = LiteRTSampler(folder / MODEL)
    return sampler, sampler.learn(STORY)


@pytest.fixture(scope="module")
def learned(folder, story, run_cli):
    """Learns from the text; returns the name of the file."""
    answer = run_cli("learn", f"--model={MODEL}", "--corpus=story.txt", "--learned=me.learned", cwd=folder)
    assert answer.returncode == 0, answer.stderr
    return "me.learned"


def test_the_program_learns_what_the_sampler_does(folder, story, tmp_path, run_cli):
    sampler, report = story
    arguments = ("learn", f"--model={MODEL}", "--corpus=story.txt", f"--learned={tmp_path / 'me.learned'}")
    answer = run_cli(*arguments, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    read, written, _, following, *commands = answer.stdout.splitlines()
    assert (
        read == f"story: {report}; what was learned now has a weight of {report.weight:.0%}, which grows where it helps"
    )
    assert report.nats_per_token < report.model_nats_per_token - 0.3
    size = (tmp_path / "me.learned").stat().st_size
    assert written == f"{tmp_path / 'me.learned'}: {len(STORY):,} tokens learned in all, {size:,} bytes"
    assert following == "Next:"
    assert [command.split()[:2] for command in commands] == [["keras-seq", "sample"], ["keras-seq", "evaluate"]]
    sampler.save_learned(tmp_path / "expected.learned")
    assert (tmp_path / "me.learned").read_bytes() == (tmp_path / "expected.learned").read_bytes()

    # The same command again goes on from there, as the same sampler does.
    again = run_cli(*arguments, "--rate=3", cwd=folder)
    twice = LiteRTSampler(folder / MODEL)
    twice.load_learned(tmp_path / "expected.learned")
    assert again.stdout.startswith(f"story: {twice.learn(STORY, rate=3)};")
    twice.save_learned(tmp_path / "expected.learned")
    assert (tmp_path / "me.learned").read_bytes() == (tmp_path / "expected.learned").read_bytes()
    assert f"{2 * len(STORY):,} tokens learned in all" in again.stdout


def test_several_texts_are_learned_in_their_order(folder, story, tmp_path, run_cli):
    arguments = ("--corpus=story.txt", "--corpus=fox.txt", f"--learned={tmp_path / 'both.learned'}")
    answer = run_cli("learn", f"--model={MODEL}", *arguments, cwd=folder)
    assert answer.stdout.startswith(f"story and 1 more: {LiteRTSampler(folder / MODEL).learn(STORY + TEXT)};")


def test_what_was_learned_is_used(folder, story, learned, run_cli):
    sampler = LiteRTSampler(folder / MODEL)
    sampler.load_learned(folder / learned)
    options = ("--prompt=my ", "--max_tokens=40", "--seed=7")
    texts = [
        run_cli("sample", f"--model={MODEL}", *options, *given, cwd=folder).stdout
        for given in ((), (f"--learned={learned}",))
    ]
    assert texts[1] == "my " + sampler.sample("my ", max_tokens=40, seed=7) + "\n" != texts[0]
    nats = [
        run_cli("evaluate", f"--model={MODEL}", "--corpus=story.txt", *given, cwd=folder).stdout.split()[2]
        for given in ((), (f"--learned={learned}",))
    ]
    assert float(nats[1]) < float(nats[0]) - 0.5
    saved = [
        run_cli("evaluate", f"--model={MODEL}", "--corpus=story.txt", "--keyboard", *given, cwd=folder).stdout
        for given in ((), (f"--learned={learned}",))
    ]
    assert saved[0] != saved[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["learn", "--model=fox/export/fox.tflite", "--corpus=story.txt", "--learned=new"], "keras-seq export --learn"),
        (
            ["learn", "--model=fox/export/fox.tflite", "--corpus=story.txt", "--learned=new"],
            "--model must be a .tflite that learns",
        ),
        (["learn", f"--model={MODEL}", "--corpus=greek.txt", "--learned=new"], "--corpus must hold only characters"),
        (["learn", f"--model={MODEL}", "--corpus=none.txt", "--learned=new"], "none.txt does not exist"),
        (["learn", f"--model={MODEL}", "--corpus=story.txt", "--learned=new", "--rate=0"], "--rate must be a positive"),
        (
            ["learn", f"--model={MODEL}", "--corpus=story.txt", "--learned=new", "--rate=nan"],
            "--rate must be a positive",
        ),
        (["learn", f"--model={MODEL}", "--corpus=story.txt", "--learned=new", "--rate=1000"], "--rate is too large"),
        (["learn", f"--model={MODEL}", "--corpus=story.txt", "--learned=fox.txt"], "is not a file of learned weights"),
        (["learn", f"--model={MODEL}", "--corpus=story.txt", "--learned=no/me.learned"], "cannot be written"),
        (["sample", f"--model={MODEL}", "--learned=fox.txt"], "is not a file of learned weights"),
        (["sample", f"--model={MODEL}", "--learned=none"], "none cannot be read: No such file or directory"),
        (["sample", "--model=fox/export/fox.tflite", "--learned=fox.txt"], "keras-seq export --learn"),
        (["sample", "--run=fox", "--learned=fox.txt"], "give the .tflite with --model"),
        (["evaluate", "--run=fox", "--learned=fox.txt"], "give the .tflite with --model"),
        (["evaluate", f"--model={MODEL}", "--learned=none", "--corpus=fox.txt"], "none cannot be read"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence_and_nothing_is_written(arguments, words, folder, story, run_cli):
    before = sorted(folder.iterdir())
    answer = run_cli(*arguments, cwd=folder)
    assert (answer.returncode, answer.stdout) == (1, "")
    (message,) = answer.stderr.splitlines()
    assert message.startswith("keras-seq: ")
    assert words in message
    assert sorted(folder.iterdir()) == before


def test_an_error_keeps_what_was_learned_before(folder, learned, run_cli):
    before = (folder / learned).read_bytes()
    for given in ("--rate=1000", "--corpus=greek.txt"):
        answer = run_cli("learn", f"--model={MODEL}", "--corpus=story.txt", f"--learned={learned}", given, cwd=folder)
        assert answer.returncode == 1
        assert (folder / learned).read_bytes() == before


def test_the_file_of_another_model_is_refused(folder, learned, tmp_path, run_cli):
    options = ("--format=tflite", "--learn", "--quantization=float16", f"--output={tmp_path}")
    assert run_cli("export", "--run=fox", *options, cwd=folder).returncode == 0
    answer = run_cli("sample", f"--model={tmp_path / 'fox.float16.learn.tflite'}", f"--learned={learned}", cwd=folder)
    expected = "belongs to another model: use that model, or learn again in another file"
    assert answer.stderr == f"keras-seq: {learned} {expected} (docs/learning.md#what-is-refused)\n"


def test_the_help_says_the_rate_of_a_file(folder, run_cli):
    printed = " ".join(run_cli("learn", "--help", cwd=folder).stdout.split())
    assert f"that of the .tflite, {RATE:g})" in printed
    assert LiteRTSampler(folder / MODEL).config["learning"] == {"rate": RATE}
