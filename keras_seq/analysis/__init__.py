"""What a model has learned: its nats per token, its gradients, its agreement."""
