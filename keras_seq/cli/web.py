"""`keras-seq web`: opens a .tflite in a page of the browser."""

import argparse
import threading
import webbrowser
from typing import Any

from keras_seq.cli.options import add_command, given_options


def add_parser(commands: Any) -> None:
    """Adds `keras-seq web` to the commands."""
    parser = add_command(commands, "web", "open a .tflite in a page of your browser, served to this machine only")
    page = parser.add_argument_group("page")
    page.add_argument("--model", metavar="FILE.tflite", help="the file (default: chosen in the page)")
    page.add_argument("--port", type=int, help="port of the page (default: 8599)")
    page.add_argument("--no_open", action="store_true", help="print the address only (default: open it in the browser)")
    parser.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> None:
    """Serves the page until Ctrl-C or SIGTERM."""
    from keras_seq_export.tflite.page_server import page_server

    server, address = page_server(arguments.model, **given_options(arguments, "port"))
    with server:
        try:
            print(f"{address} (Ctrl-C ends it)", flush=True)
            if not arguments.no_open:  # A browser in the terminal keeps its caller until it ends.
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
            server.serve_forever()
        except KeyboardInterrupt:
            print()
