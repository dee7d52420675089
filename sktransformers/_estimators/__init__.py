"""The estimators and their base classes."""
