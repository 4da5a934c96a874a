"""Keras layers: the GRU."""
