"""Denoising: schedules, samplers, guidance, and the engine that batches them step by step."""
