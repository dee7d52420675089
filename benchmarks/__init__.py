"""Benchmarks of sktransformers against other libraries."""
