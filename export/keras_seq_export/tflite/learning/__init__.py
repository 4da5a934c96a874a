"""Learning in a .tflite on the device: what the exporter adds to the file, and what the host does with it."""
