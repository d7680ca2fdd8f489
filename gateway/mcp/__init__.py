"""The Model Context Protocol in front of the same intake as fal's routes."""
