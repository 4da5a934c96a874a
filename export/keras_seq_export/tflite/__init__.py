"""The .tflite for LiteRT: written, checked, read and run."""
