"""OpenAI's Images API in front of the same intake as fal's routes."""
