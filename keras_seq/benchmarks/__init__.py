"""Measurements beside the peers; `keras-seq benchmark` runs them."""
