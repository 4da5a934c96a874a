"""The export of a SavedModel for TensorFlow Serving, and its verification."""
