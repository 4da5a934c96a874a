"""One run of `model.fit`: configuration, callbacks, checkpoints, the run directory."""
