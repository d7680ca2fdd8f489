"""Weights that clients name: where they are, how they come here, and the cache that keeps them."""
