"""Prediction, inference backends and text generation."""
