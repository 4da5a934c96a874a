"""The program `keras-seq`: one module a command."""
