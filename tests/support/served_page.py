"""The page of export/web on a server in this process."""

import contextlib
import threading

from keras_seq_export.tflite.page_server import page_server


@contextlib.contextmanager
def served(model, litert, demo=None):
    """Serves the page, with the models of a demo to compare; yields its address."""
    server, address = page_server(model, litert, port=0, demo=demo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield address
    finally:
        server.shutdown()
        server.server_close()
