"""Data, model and training loop of the demo."""
