"""One step of a model in integers: 8-bit weights, 16-bit activations, no operator whose result depends on a runtime."""
