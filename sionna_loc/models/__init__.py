"""Localizers: from model inputs to a position."""
