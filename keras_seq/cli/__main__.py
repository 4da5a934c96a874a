"""Runs the program: `python -m keras_seq.cli`."""

from keras_seq.cli.main import run

if __name__ == "__main__":
    run()
