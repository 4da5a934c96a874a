"""Tokens from a model: the random stream, the draw, the token loop, scores."""
