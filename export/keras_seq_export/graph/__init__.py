"""Steps of a model inside a TensorFlow graph, for both exports."""
