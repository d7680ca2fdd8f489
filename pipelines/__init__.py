"""What makes a picture: prompts, image operations, weights, denoising engine. Knows neither Ray nor serving."""
