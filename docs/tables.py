"""Writes the tables of measured figures into README and docs: `python docs/tables.py`.

The figures are in docs/benchmarks/results. quality.json was copied from the output of `keras-seq evaluate`, files.json
from the reports of `keras-seq export`. Each other file is the output of `keras-seq benchmark SUBJECT --json`: layer.json
of `layer --all`, first_fit.json of `layer --first_fit`. A page has a table between the lines `<!-- table: NAME -->` and
`<!-- end of table -->`.
"""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
PAGES = [DOCS.parent / "README.md", *sorted((DOCS / "benchmarks").glob("*.md"))]
RESULTS = DOCS / "benchmarks/results"
Figures = dict[str, Any]
Rows = list[Figures]
_TABLE = re.compile(r"(?<=<!-- table: )(\w+) -->\n.*?\n(?=<!-- end of table -->)", re.DOTALL)
README_CASES = {
    ("32x64x64x128", ""): "GRU, batch 32, 64 steps, 64 features, 128 units",
    ("64x100x256x512", ""): "GRU, batch 64, 100 steps, 256 features, 512 units",
    ("1x1000x64x256", ""): "GRU, batch 1, 1,000 steps, 64 features, 256 units",
    ("32x64x64x128", "LSTM"): "LSTM, batch 32, 64 steps, 64 features, 128 units",
}
README_STEPS = {
    "keras_seq .tflite, int8": "keras_seq, int8",
    "keras_seq .tflite, float32": "keras_seq, float32",
    "ONNX Runtime, int8": "ONNX Runtime, its fastest int8",
    "PyTorch, int8": "PyTorch, int8",
    "Model.predict": "`Model.predict`",
}
HELD_OUT_ROWS = {
    "nats on the next 10,000 characters, before -> after it has read the first 20,000 three times": ("nats", "{:.3f}"),
    "the most likely character is right there, before -> after": ("accuracy", "{:.1%}"),
}


def with_tables(page: str) -> str:
    """Returns the text of a page with its tables as the files have them."""
    return _TABLE.sub(lambda name: f"{name[1]} -->\n\n{table(name[1])}\n\n", page)


def table(name: str) -> str:
    """Returns the text of a table."""
    file, lines_of = TABLES[name]
    return "\n".join(lines_of(json.loads((RESULTS / file).read_text(encoding="utf-8"))))


def _markdown(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    head = list(head)
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def _number(value: float) -> str:
    """Returns a number with about three digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _least_bold(values: list[float], shown: Callable[[float], str] = _number) -> list[str]:
    """Returns numbers as cells, the least of them bold."""
    return [f"**{shown(value)}**" if value == min(values) else shown(value) for value in values]


def _by_contender(rows: Rows) -> dict[tuple[str, str], dict[str, Figures]]:
    """Returns the rows of `benchmark layer` by case, and in a case by library."""
    cases: dict[tuple[str, str], dict[str, Figures]] = {}
    for row in rows:
        cases.setdefault((row["size"], row["case"]), {})[row["contender"].rpartition(".")[0]] = row
    return cases


def _milliseconds(row: Figures | None) -> str:
    return _number(row["milliseconds"]) if row else ""


def layers(rows: Rows) -> list[str]:
    """The table of `benchmark layer --all`."""
    lines = []
    for (size, case), times in _by_contender(rows).items():
        ours, keras = times["keras_seq"], times["keras.layers"]
        columns = [ours, keras, times.get("torch.nn"), times.get("jax.lax")]
        memory = f"{ours['peak_mib']:.0f} / {keras['peak_mib']:.0f}"
        ratios = [f"{ours['speedup']:.2f}x", f"{ours['share']:.0%}"]
        lines.append([size, case, *map(_milliseconds, columns), *ratios, memory])
    return _markdown(["size", "case", "ours", "Keras", "PyTorch", "JAX", "speed-up", "share", "MiB"], lines)


def readme_layers(rows: Rows) -> list[str]:
    """The rows of `benchmark layer --all` that README has."""
    cases = _by_contender(rows)
    head = (
        "training: a forward and backward pass, `keras-seq benchmark layer --all`; milliseconds, lower is better",
        *("keras_seq", "Keras", "PyTorch"),
    )
    lines = []
    for case, text in README_CASES.items():
        times = [cases[case][library]["milliseconds"] for library in ("keras_seq", "keras.layers", "torch.nn")]
        lines.append([text, *_least_bold(times)])
    return _markdown(head, lines)


def first_fits(rows: Rows) -> list[str]:
    """The table of `benchmark layer --first_fit`."""
    lines = ([one["model"], f"{one['stock']:.2f}", f"{one['ours']:.2f}", f"{one['ratio']:.2f}x"] for one in rows)
    return _markdown(["first fit", "stock, s", "ours, s", "ratio"], lines)


def _by_size(rows: Rows) -> tuple[list[int], dict[str, Rows]]:
    """Returns the sizes of the vocabularies, and the rows of each contender in their order."""
    contenders: dict[str, Rows] = {}
    for row in rows:
        contenders.setdefault(row["what"], []).append(row)
    return list(dict.fromkeys(row["tokens"] for row in rows)), contenders


def decodes(rows: Rows) -> list[str]:
    """The table of `benchmark decode`."""
    sizes, contenders = _by_size(rows)
    lines = []
    for name, by_size in contenders.items():
        cells = [name]
        for row in by_size:
            cells += [_number(row["microseconds"]), f"{row['of_int8']:,.2f}x"]
            cells.append(f"{row['floor']:.2f}x" if row["floor"] else "")
        lines.append(cells)
    head = [part for size in sizes for part in (f"{size:,} tokens", "of int8", "of floor")]
    return _markdown(["microseconds", *head], lines)


def readme_decodes(rows: Rows) -> list[str]:
    """The rows of `benchmark decode` that README has."""
    title = "one token: a step of a GRU of 512 units, `keras-seq benchmark decode`; microseconds, lower is better"
    sizes, _ = _by_size(rows)
    columns = [
        _least_bold(
            [
                min(row["microseconds"] for row in rows if row["tokens"] == size and row["what"].startswith(name))
                for name in README_STEPS
            ]
        )
        for size in sizes
    ]
    lines = zip(README_STEPS.values(), *columns, strict=True)
    return _markdown([title, *(f"vocabulary of {size:,}" for size in sizes)], lines)


def samples(rows: Rows) -> list[str]:
    """The table of `benchmark sample`."""
    sizes, contenders = _by_size(rows)
    lines = (
        [name, *(cell for row in by_size for cell in (_number(row["microseconds"]), f"{row['decodes']:.2f}x"))]
        for name, by_size in contenders.items()
    )
    return _markdown(["", *(part for size in sizes for part in (f"{size:,} tokens", "of `decode`"))], lines)


def corpora(rows: Rows) -> list[str]:
    """The table of `benchmark corpus`."""
    head = [
        "",
        "MB/s",
        "MB/s per core",
        "memory, MiB",
        "bytes per token",
        "ms per training step",
        "share spent waiting",
    ]
    keys = ("megabytes_a_second", "megabytes_a_core_second", "memory_mib", "bytes_a_token", "step_ms")
    lines = ([one["kind"], *(f"{one[key]:,.0f}" for key in keys), f"{one['waiting']:.1%}"] for one in rows)
    return _markdown(head, lines)


def recipes(rows: Rows) -> list[str]:
    """The table of the recipes, from quality.json."""
    ways = ("windows", "carried")
    lines = ([one["model"], _millions(one), *(f"{one[key]:.3f}" if one[key] else "" for key in ways)] for one in rows)
    return _markdown(["`keras-seq train --corpus=shakespeare.txt ...`", "parameters", *ways], lines)


def readme_recipes(rows: Rows) -> list[str]:
    """The recipes that README has."""
    title = (
        "quality: tiny Shakespeare's last tenth in windows of 256, `keras-seq train` and `evaluate`; nats per character, "
        "lower is better"
    )
    shown = [one for one in rows if one["in_readme"]]
    nats = _least_bold([one["windows"] for one in shown], "{:.3f}".format)
    lines = ([one["model"], _millions(one), cell] for one, cell in zip(shown, nats, strict=True))
    return _markdown([title, "parameters", "nats"], lines)


def files(rows: Rows) -> list[str]:
    """The table of the files of each run, from files.json."""
    head = ["run", "float32, bytes", "float16", "int8", "int4"]
    lines = []
    for run in dict.fromkeys(row["run"] for row in rows):
        by_quantization = {row["quantization"]: row for row in rows if row["run"] == run}
        whole = by_quantization["none"]["bytes"]
        cells = [run, f"{whole:,}"]
        for quantization in ("float16", "int8", "int4"):
            row = by_quantization[quantization]
            cells.append(f"{row['bytes'] / whole:.1%}, {row['nats_lost']:z.4f}, {row['greedy_agreement']:.1%}")
        lines.append(cells)
    return _markdown(head, lines)


def batches(serving: Figures) -> list[str]:
    """The table of the batch sizes of `benchmark serve`."""
    head = ["batch", "texts, ms", "bare steps, ms", "ratio", "tokens/s"]
    lines = (
        [
            f"{row['batch']}",
            *map(_number, (row["generate"], row["decode"])),
            f"{row['ratio']:.2f}x",
            f"{row['tokens_per_second']:,.0f}",
        ]
        for row in serving["batches"]
    )
    return _markdown(head, lines)


def clients(serving: Figures) -> list[str]:
    """The table of the many clients of `benchmark serve`."""
    found = serving["concurrency"]
    head = ["", "requests per second", "answers that are equal"]
    together = [f"{found['clients']} clients at once", found["seconds"], f"{found['equal']:,} of {found['requests']:,}"]
    alone = ["one after another", found["serial_seconds"], ""]
    lines = ([name, _number(found["requests"] / seconds), equal] for name, seconds, equal in (together, alone))
    return _markdown(head, lines)


def memories(rows: Rows) -> list[str]:
    """The table of `benchmark memory`."""
    biases = {"zeros": "bias of zeros, as in Keras", "chrono": "`ChronoInitializer(longest=k + 1)`"}
    head = ["", *(f"k = {row['distance']}" for row in rows)]
    return _markdown(head, ([text, *(f"{row[bias]:.0%}" for row in rows)] for bias, text in biases.items()))


def step_times(times: Figures) -> list[str]:
    """The table of what `benchmark distribute` measures."""
    alone, together = (1e3 * times[name] for name in ("alone_seconds", "together_seconds"))
    lines = [
        ["alone", f"{alone:.1f}"],
        ["with a second worker on the same machine", f"{together:.1f} ({1 - alone / together:.0%} is communication)"],
    ]
    return _markdown(["", "ms per step"], lines)


def many_workers(times: Figures) -> list[str]:
    """The table of what `benchmark distribute` models."""
    cells: dict[int, dict[int, str]] = {}
    for one in times["modelled"]:
        cells.setdefault(one["workers"], {})[one["gigabits"]] = f"{one['seconds'] * 1e3:.1f} ms, {one['share']:.0%}"
    head = ["workers", *(f"{gigabits} Gbit/s" for gigabits in next(iter(cells.values())))]
    return _markdown(head, ([f"{workers}", *row.values()] for workers, row in cells.items()))


def same_texts(comparison: Figures) -> list[str]:
    """The table of `benchmark identity`."""
    different = {difference["request"]["seed"] for difference in comparison["differences"]}
    counts = [comparison["texts"], comparison["tokens"], comparison["texts"] - len(different)]
    return _markdown(["texts", "tokens", "texts that are equal everywhere"], [[f"{count:,}" for count in counts]])


def learned(measured: Figures) -> list[str]:
    """The table of what `benchmark learning` gains with the int8 file."""
    gains, held_out = ([row for row in measured[name] if row["model"] == "int8"] for name in ("gains", "held_out"))
    lines = []
    for tokens in ("1000", "5000", "20000"):
        saved = (f"{_saved(row['reports'][tokens]):.3f}" for row in gains)
        lines.append([f"nats saved per character while it reads the first {int(tokens):,}", *saved])
    for name, (key, shown) in HELD_OUT_ROWS.items():
        pairs = ((row["before"][key], row["after"][key]) for row in held_out)
        lines.append([name, *(f"{shown.format(before)} -> {shown.format(after)}" for before, after in pairs)])
    uses = ([1 - use["keystrokes"] / use["characters"] for use in row["uses"]] for row in measured["keystrokes"])
    cells = (f"{before:.1%} -> {after:.1%}" for before, _, after in uses)
    lines.append(["keystrokes saved by three suggestions, before -> after it has read 20,000 characters once", *cells])
    return _markdown(["", *(row["text"] for row in gains)], lines)


def _saved(report: Figures) -> float:
    """Returns the nats per token that learning saved."""
    return report["model_nats_per_token"] - report["nats_per_token"]


def weeks(measured: Figures) -> list[str]:
    """The table of the simulated weeks of `benchmark learning`."""
    turns: dict[str, list[float]] = {}
    for turn in measured["weeks"]["turns"]:
        turns.setdefault(turn["author"], []).append(_saved(turn["report"]))
    lines = [
        ["turns", *(f"{len(saved)}" for saved in turns.values())],
        ["nats saved per character", *(f"{sum(saved) / len(saved):.3f}" for saved in turns.values())],
        ["... in the worst turn", *(f"{min(saved):.3f}" for saved in turns.values())],
    ]
    for name, when in (("before", 0), ("after", 1)):
        nats = (f"{measured['weeks']['held_out'][author][when]['nats']:.3f}" for author in turns)
        lines.append([f"nats on its last 10,000 characters, {name} all turns", *nats])
    return _markdown(["", *turns], lines)


def learning_costs(measured: Figures) -> list[str]:
    """The table of what `benchmark learning` costs."""
    head = ["file", "`decode`, us", "`prefill`, us", "`learn`, us", "bytes", "bytes of what was learned"]
    lines = []
    for model in dict.fromkeys(row["model"] for row in measured["costs"]):
        rows = {row["signature"]: row for row in measured["costs"] if row["model"] == model}
        times = (_number(rows[name]["microseconds"]) if name in rows else "" for name in ("decode", "prefill", "learn"))
        learned_bytes = rows["decode"]["learned_bytes"]
        sizes = [f"{rows['decode']['bytes']:,}", f"{learned_bytes:,}" if learned_bytes else ""]
        lines.append([model, *times, *sizes])
    return _markdown(head, lines)


def _millions(row: Figures) -> str:
    return f"{row['parameters'] / 1e6:.2f} M"


TABLES: dict[str, tuple[str, Callable[[Any], list[str]]]] = {
    "layers": ("layer.json", layers),
    "readme_layers": ("layer.json", readme_layers),
    "first_fits": ("first_fit.json", first_fits),
    "decodes": ("decode.json", decodes),
    "readme_decodes": ("decode.json", readme_decodes),
    "samples": ("sample.json", samples),
    "corpora": ("corpus.json", corpora),
    "recipes": ("quality.json", recipes),
    "readme_recipes": ("quality.json", readme_recipes),
    "files": ("files.json", files),
    "batches": ("serve.json", batches),
    "clients": ("serve.json", clients),
    "memories": ("memory.json", memories),
    "step_times": ("distribute.json", step_times),
    "many_workers": ("distribute.json", many_workers),
    "same_texts": ("identity.json", same_texts),
    "learned": ("learning.json", learned),
    "weeks": ("learning.json", weeks),
    "learning_costs": ("learning.json", learning_costs),
}

if __name__ == "__main__":
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if (filled := with_tables(text)) != text:
            page.write_text(filled, encoding="utf-8")
            print(page)
