"""Keras models: a language model, its one-step and its stateful form."""
