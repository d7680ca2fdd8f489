"""The engine's stages around the denoiser: text encoders, VAE, control hints."""
