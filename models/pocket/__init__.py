"""The pocket model: an SDXL-architecture family small enough for two CPU cores."""
