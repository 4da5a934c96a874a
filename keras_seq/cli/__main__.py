"""Starts the program: `keras-seq`, or `python -m keras_seq.cli`."""

from keras_seq import signals


def run() -> None:
    """Entry point of the program. Ctrl-C and SIGTERM are handled before the modules of the commands are imported."""
    signals.end_on_signals()
    try:
        from keras_seq.cli.main import run as run_command

        run_command()
    except KeyboardInterrupt:  # before the command has begun
        signals.leave(signals.say_interrupted())
    except SystemExit as end:
        if isinstance(end.code, int):
            signals.leave(end.code)
        raise


if __name__ == "__main__":
    run()
