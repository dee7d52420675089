"""Words in, ids out. Knows nothing of models or labels."""
