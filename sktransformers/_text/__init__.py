"""Input validation, tokenization and batching of texts."""
