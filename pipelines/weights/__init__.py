"""Weights: from the files of a family to modules in memory."""
