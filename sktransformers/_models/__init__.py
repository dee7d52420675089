"""Loading of pre-trained checkpoints and their heads."""
