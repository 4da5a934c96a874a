"""Text and token ids: corpora, vocabularies, encoded texts, and the batches that `fit` reads."""
