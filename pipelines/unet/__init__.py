"""The UNet's call: what its rows carry, the layers that read it, and how it is run."""
