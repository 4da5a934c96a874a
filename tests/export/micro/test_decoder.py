"""The C decoder with whole models: the steps, texts and suggestions of LiteRT, bit for bit."""

import re

import integer_steps
import micro_session as c
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hamlet import NGRAMS, TEXT, WIDE, prompts

import keras_seq as ks
from keras_seq.generation.integer_sampling import IntegerSettings
from keras_seq.generation.sampling import SamplingSettings
from keras_seq_export import ExportError, LiteRTSampler
from keras_seq_export.micro.execute import Execution
from keras_seq_export.micro.memory import planned
from keras_seq_export.micro.proof import prove_program
from keras_seq_export.micro.reading import read_program
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.bundle import read_bundle

_DRAW = ("temperature", "top_k", "top_p", "min_p")


@pytest.mark.parametrize("name", integer_steps.NAMES)
def test_each_model_gives_the_integers_of_litert(name, session):
    _, content = integer_steps.contents_of(name)
    memory = planned(read_program(content))
    assert prove_program(content, memory) == 400
    execution, tokens = Execution(memory), np.random.default_rng(1).integers(0, integer_steps.TOKENS, 60)
    expected = [execution.step(int(token)) for token in tokens]
    *answers, states = session(memory, integer_steps.VOCABULARY).run(*map(c.step, tokens), "v\n")
    np.testing.assert_array_equal([one.numbers for one in answers[1:]], expected)
    np.testing.assert_array_equal(states.numbers, np.concatenate(execution.states()))


OTHER_HASH = "must be one of a token, or of n-grams as keras_seq exports them"


@pytest.mark.parametrize(
    ("name", "position", "message"),
    [
        ("GREATER_EQUAL", -1, OTHER_HASH),
        ("MAXIMUM", -1, OTHER_HASH),
        ("GATHER", -1, OTHER_HASH),
        ("MINIMUM", 0, "reads n-grams of all tokens of the model; the hashes of this file limit them"),
    ],
)
def test_a_hash_that_is_computed_in_another_way_is_refused(name, position, message):
    model = flatbuffer.parse(integer_steps.contents_of("n-grams")[1])
    (graph,) = model.subgraphs
    operator = [one for one in graph.operators if flatbuffer.operator_name(model, one) == name][position]
    given, replaced = operator.inputs
    buffer = flatbuffer.add_buffer(model, np.array([7], np.int32))
    seven = flatbuffer.add_tensor(graph, b"seven", schema.TensorType.INT32, graph.tensors[replaced].shape, buffer)
    operator.inputs = [given, seven]
    with pytest.raises(ExportError, match=message):
        read_program(flatbuffer.pack(model))


def test_a_model_of_256_units_needs_2_kilobytes_and_a_half():
    model = ks.language_model(65, units=[256])
    _, content = None, integer_steps.integer_model(integer_steps.float32_content(model, None))
    memory = planned(read_program(content))
    assert 2 * memory.size == 2560


class Model:
    """A file, its sampler, and a session of the C decoder with the same model."""

    def __init__(self, path, session, sampling=None):
        bundle = read_bundle(path)
        self.sampler = LiteRTSampler(path)
        self.vocabulary = bundle.vocabulary
        self.memory = planned(read_program(bundle.model))
        self.session = session(self.memory, bundle.vocabulary, sampling)

    def texts(self, *cases):
        """Returns what C writes after each prompt with its options."""
        commands = []
        for prompt, options in cases:
            settings = SamplingSettings(**{name: options[name] for name in _DRAW if name in options})
            commands += [
                c.text("p", prompt),
                c.write(options["seed"], options["max_tokens"], IntegerSettings.of(settings)),
            ]
        return [c.written(answer)[1] for answer in self.session.run(*commands)[2::2]]


@pytest.fixture(params=["char", "word", "whitespace"])
def model(request, small_tflite, session):
    return Model(small_tflite(level=request.param, quantization="integer"), session)


def test_twenty_texts_are_those_of_litert(model):
    cases = list(prompts())
    expected = [model.sampler.sample(prompt, **options) for prompt, options in cases]
    assert model.texts(*cases) == expected
    assert len(set(expected)) > 10


@pytest.mark.parametrize("cell", ["gru", "lstm", "simple_rnn"])
def test_each_cell_writes_the_texts_of_litert(cell, small_tflite, session):
    model = Model(
        small_tflite(cell=cell, units=(32,), embedding_dim=32, weight_scale=1, quantization="integer"), session
    )
    cases = list(prompts())[:5]
    assert model.texts(*cases) == [model.sampler.sample(prompt, **options) for prompt, options in cases]


def test_a_model_with_ngrams_writes_the_texts_of_litert(small_tflite, session):
    model = Model(small_tflite(**NGRAMS, **WIDE, quantization="integer"), session)
    cases = list(prompts())[:5]
    assert model.texts(*cases) == [model.sampler.sample(prompt, **options) for prompt, options in cases]


def test_a_bias_and_the_unknown_token_are_those_of_litert(small_tflite, session):
    """They are part of the header."""
    options = {"bias": {" be": 2.5, "To": -1e6, " or": 1e6}, "allow_unk": True}
    path = small_tflite(level="word", quantization="integer")
    model = Model(path, session, SamplingSettings(**options))
    cases = list(prompts())[:6]
    expected = [model.sampler.sample(prompt, **settings, **options) for prompt, settings in cases]
    assert model.texts(*cases) == expected


def test_a_text_goes_on_after_more_text(model):
    first, second = TEXT[:42], TEXT[42:80]
    last = c.write(3, 20, IntegerSettings())
    answers = model.session.run(c.text("p", first + second), last, c.text("p", first), c.text("r", second), last)
    assert answers[2] == answers[5]


def test_suggestions_are_those_of_litert(model):
    texts = ["", "T", "To ", "To b", "To be, or not to ", "that is the question", "'ti", "W", TEXT, "nobler in the mi"]
    answers = model.session.run(*map(c.suggest, texts))[1:]
    for text, answer in zip(texts, answers, strict=True):
        begun, *found = answer.rest
        words = [bytes.fromhex(insert).decode() for insert in found[::2]]
        expected = model.sampler.suggest(text, count=3)
        assert words == [one.insert for one in expected]
        np.testing.assert_allclose(
            [2 ** (-int(cost) / 2**24) for cost in found[1::2]], [one.probability for one in expected]
        )
        end = text.encode()[len(text.encode()) - int(begun) :].decode()
        assert [(end + word).removeprefix(" ") for word in words] == [one.text for one in expected]


def test_suggestions_leave_the_text_where_it_was(model):
    """A keyboard reads what is typed and asks for words in between."""
    level = model.vocabulary.level
    typed = "To be, or " if level == "char" else "To be, or"
    end = typed if level == "char" else typed + " "
    more = c.write(5, 15, IntegerSettings())
    answers = model.session.run(
        c.text("p", typed), c.suggest(end, command="n"), c.suggest(end, command="n"), more, c.text("p", typed), more
    )
    assert answers[2] == answers[3]
    assert answers[4] == answers[6]
    if level == "char":
        assert answers[2].rest == model.session.run(c.suggest(typed))[1].rest


def test_a_search_with_few_steps_gives_fewer_words_at_most(small_tflite, session):
    model = Model(small_tflite(quantization="integer"), session)
    few, all_of_them = model.session.run(c.suggest("To ", count=9, steps=2), c.suggest("To ", count=9))[1:]
    assert len(few.rest) <= len(all_of_them.rest)


def test_a_small_memory_is_refused_with_the_bytes_needed(model):
    needed = 2 * model.memory.size
    for bytes_given, status in ((0, c.TOO_SMALL), (needed - 1, c.TOO_SMALL), (needed, c.OK)):
        (opened,) = model.session.run(memory=bytes_given)
        assert opened[:2] == (status, needed if status else 0)
    answer = model.session.run(c.suggest("To", workspace=8))[1]
    assert answer.status == c.TOO_SMALL
    answers = model.session.run(c.suggest("To", workspace=answer.detail - 1), c.suggest("To", workspace=answer.detail))
    assert [one.status for one in answers[1:]] == [c.TOO_SMALL, c.OK]
    # No byte of either is too many: the sanitizers see it.
    assert (
        model.session.run(c.text("p", "To be"), c.suggest("To", workspace=answer.detail), memory=needed)[2].status
        == c.OK
    )


def test_a_refused_text_changes_nothing(model):
    reserved = "<eos>" if model.vocabulary.level == "whitespace" else None
    cases = [(b"To \xff", c.NOT_UTF8, 3), (b"To b\xc3", c.NOT_UTF8, 4)]
    if model.vocabulary.level == "char":
        cases += [("To Ω", c.UNKNOWN_TOKEN, 3)]
    if reserved:
        cases += [(f"To be {reserved}", c.UNKNOWN_TOKEN, 6)]
    more = c.write(5, 15, IntegerSettings())
    for text, status, detail in cases:
        answers = model.session.run(
            c.text("p", "To be"), c.text("p", text), c.text("r", text), more, c.text("p", "To be"), more
        )
        assert [answers[i][:2] for i in (2, 3)] == [(status, detail)] * 2
        assert answers[4] == answers[6]
        assert model.session.run(c.suggest(text))[1].status == status or status == c.UNKNOWN_TOKEN


def test_a_decoder_that_was_not_opened_is_refused(model):
    needed = 2 * model.memory.size
    commands = [c.text("p", "To be"), c.choose(), c.suggest("To be"), c.suggest("To be", command="n")]
    answers = model.session.run(*commands, f"o {needed}\n", *commands, memory=needed - 1)
    assert [one.status for one in answers] == [c.TOO_SMALL, *[c.BAD_ARGUMENT] * 4, *[c.OK] * 5]


def test_a_search_that_is_refused_has_not_read_the_text(model):
    more = c.write(5, 15, IntegerSettings())
    refused = [
        c.suggest("that is", workspace=8),
        c.suggest("that is", count=0),
        c.suggest("that \xff".encode("latin-1")),
    ]
    answers = model.session.run(c.text("p", "To be"), *refused, more, c.text("p", "To be"), more)
    assert [one.status for one in answers[2:5]] == [c.TOO_SMALL, c.BAD_ARGUMENT, c.NOT_UTF8]
    assert [one.rest for one in answers[2:5]] == [["0"]] * 3
    assert answers[5] == answers[7]


def test_arguments_out_of_range_are_refused(model):
    answers = model.session.run(
        c.step(len(model.vocabulary)),
        c.frame([]),
        c.suggest("", count=0),
        c.suggest("", count=101),
        c.suggest("", steps=0),
        c.suggest("", steps=65),
    )
    assert [one.status for one in answers[1:]] == [c.NO_TOKEN, c.NOT_OF_FRAMES, *[c.BAD_ARGUMENT] * 4]


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        ("_weights[", None, c.DAMAGED),
        ("_biases[", None, c.DAMAGED),
        ("_sigmoid[", None, c.DAMAGED),
        ("_starts[", None, c.DAMAGED),
        ("_ordered[", None, c.DAMAGED),
        ("    2u, 0x", "    1u, 0x", c.OTHER_FORMAT),
        (", 0x", ", 1u + 0x", c.DAMAGED),
        ("UINT64_C(", "1 + UINT64_C(", c.DAMAGED),
    ],
)
def test_a_changed_header_is_refused(old, new, status, small_tflite, session):
    def change(header):
        if new is not None:
            position = header.index(old, header.index("static const ks_micro_model"))
            return header[:position] + new + header[position + len(old) :]
        start = header.index("{", header.index(old)) + 1
        end = header.index(",", start)
        return f"{header[:start]} {int(header[start:end]) ^ 1}{header[end:]}"

    path = small_tflite(quantization="integer")
    bundle = read_bundle(path)
    program = session(planned(read_program(bundle.model)), bundle.vocabulary, change=change)
    (opened,) = program.run()
    assert opened.status == status


@pytest.mark.parametrize("place", ["weights", "operators", "tokens", "vocabulary", "ordered", "texts"])
def test_a_count_that_is_too_large_is_refused_before_it_is_used(place, small_tflite, session):
    """The sanitizers see a number that is read beyond an array."""
    numbers = {"weights": (3, 0), "operators": (3, 4), "tokens": (3, 8), "vocabulary": (5, 4), "ordered": (5, 5)}
    line, number = numbers.get(place, (5, 7))

    def change(header):
        lines = header.splitlines()
        line_number = next(i for i, one in enumerate(lines) if one.startswith("static const ks_micro_model")) + line
        parts = lines[line_number].split(", ")
        assert re.fullmatch(r" *\d+u", parts[number])
        parts[number] = "4000000000u"
        return "\n".join([*lines[:line_number], ", ".join(parts), *lines[line_number + 1 :], ""])

    bundle = read_bundle(small_tflite(quantization="integer"))
    (opened,) = session(planned(read_program(bundle.model)), bundle.vocabulary, change=change).run()
    assert opened.status == c.DAMAGED


def test_a_changed_end_of_the_texts_is_refused(small_tflite, session):
    def change(header):
        start = header.index("{", header.index("model_starts["))
        end = header.index(",\n};", start)
        last = max(header.rindex(" ", start, end), header.rindex("\n", start, end)) + 1
        return f"{header[:last]}4000000000u{header[end:]}"

    bundle = read_bundle(small_tflite(quantization="integer"))
    (opened,) = session(planned(read_program(bundle.model)), bundle.vocabulary, change=change).run()
    assert opened.status == c.DAMAGED


def test_a_truncated_vocabulary_is_refused(small_tflite, session):
    """C fills the rest of an array with zeros."""

    def change(header):
        start = header.index("{", header.index("model_texts[")) + 1
        return header[: header.index(",", start) + 1] + header[header.index("};", start) :]

    bundle = read_bundle(small_tflite(quantization="integer"))
    (opened,) = session(planned(read_program(bundle.model)), bundle.vocabulary, change=change).run()
    assert opened.status == c.DAMAGED
