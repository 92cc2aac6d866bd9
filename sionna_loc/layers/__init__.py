"""Keras layers of the localizers."""
