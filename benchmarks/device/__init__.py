"""The parts of `benchmarks.gpu_sdxl`: what it measures on a device, and with what."""
