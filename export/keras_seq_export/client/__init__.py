"""The client of a TensorFlow Serving server."""
