"""Generation and scoring of text: the random stream, sampling, beam search, the token loop of all runtimes."""
