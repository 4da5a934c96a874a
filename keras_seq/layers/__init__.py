"""Keras layers: GRU, LSTM, SimpleRNN."""
