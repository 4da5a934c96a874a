"""What a model has learned: cross-entropy of a text, gradient norms, subject-verb agreement."""
