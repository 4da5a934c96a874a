"""Every error class of the package."""


class TrainingError(RuntimeError):
    """A training run that cannot go on."""


class RunError(ValueError):
    """A directory that is not a run, or cannot become one."""


class Diverged(TrainingError):
    """A run whose loss or gradient is no longer a number, or that predicts worse than a guess."""


class RendezvousError(ValueError):
    """Workers that do not find each other."""


class ProcessEnded(ValueError):
    """A process that was ended from outside."""


class VocabularyError(ValueError):
    """A vocabulary file that is damaged: the message says what is wrong and in which line."""


class DistributionError(ValueError):
    """Workers that cannot train together: the message says what was expected, what came and what to do."""


class CorpusError(ValueError):
    """A text file that cannot be learned from: the message says what was expected, what came and what to do."""


class SteppingError(ValueError):
    """A model that cannot be run a step at a time."""
