"""The SavedModel for TensorFlow Serving: written and checked."""
