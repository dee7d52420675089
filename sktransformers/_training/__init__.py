"""Training loop, optimizer, checkpoints and callbacks of ``fit``."""
