"""Devices, precision and optimizations of training on CPUs."""
