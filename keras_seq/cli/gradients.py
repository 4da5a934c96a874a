"""`keras-seq gradients`: exploding gradients and clipping, or how far back the loss of a run reaches."""

import argparse
from pathlib import Path
from typing import Any

from keras_seq.cli.options import add_command

_SHOWN_LAGS = (0, 1, 2, 5, 10, 20, 50, 100)


def add_parser(commands: Any) -> None:
    """Adds `keras-seq gradients` to the commands."""
    parser = add_command(
        commands, "gradients", "show gradients that explode and are clipped, or how far back the loss of a run reaches"
    )
    flow = parser.add_argument_group("gradient flow")
    flow.add_argument(
        "--run",
        action="append",
        help="run directory, to show how far back its loss reaches; may be given several times "
        "(default: show exploding gradients)",
    )
    flow.add_argument("--lags", type=int, default=100, help="largest lag, in steps (default: 100)")
    results = parser.add_argument_group("results")
    results.add_argument("--output", default="gradients", help="directory for pictures and tables (default: gradients)")
    results.add_argument("--seed", type=int, default=0, help="seed of the weights and of the text (default: 0)")
    parser.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> None:
    """Draws exploding gradients, or the gradient flow of runs."""
    from keras_seq.files import explaining

    output = Path(arguments.output)
    with explaining(output):
        output.mkdir(parents=True, exist_ok=True)
    if arguments.run:
        _show_flow(arguments, output)
    else:
        _show_explosions(arguments, output)


def _show_explosions(arguments: argparse.Namespace, output: Path) -> None:
    from keras_seq.analysis.exploding_gradients import explosions
    from keras_seq.analysis.plots import plot_explosions

    runs = []
    for run in explosions(arguments.seed):
        print(run, flush=True)
        runs.append(run)
    plot_explosions(runs, output / "explosion.png")
    print(f"the norms by step: {output / 'explosion.png'}")


def _show_flow(arguments: argparse.Namespace, output: Path) -> None:
    from keras_seq.analysis.gradient_flow import run_flow, write_flow
    from keras_seq.analysis.plots import plot_gradient_flow

    curves = [curve for name in arguments.run for curve in run_flow(Path(name), arguments.lags, arguments.seed)]
    write_flow(curves, output / "gradient_flow.csv")
    plot_gradient_flow(curves, output / "gradient_flow.png")
    shown = [lag for lag in _SHOWN_LAGS if lag <= arguments.lags]
    print(f"{'k':<40}" + "".join(f"{lag:>9}" for lag in shown))
    for curve in curves:
        print(f"{curve.label:<40}" + "".join(f"{curve.norms[lag]:>9.1e}" for lag in shown))
    print(f"{output / 'gradient_flow.png'}, {output / 'gradient_flow.csv'}")
