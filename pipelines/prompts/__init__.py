"""Prompts as text: lines, emphasis and chunks, before any model sees them. No torch."""
