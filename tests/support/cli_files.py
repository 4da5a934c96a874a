"""Texts and names of files for the tests of the program."""

TEXT = "the quick brown fox jumps over the lazy dog. pack my box with five dozen liquor jugs.\n" * 60
BINARY, EMPTY, SHORT = "binary.txt", "empty.txt", "short.txt"
