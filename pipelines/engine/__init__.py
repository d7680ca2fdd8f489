"""The engine: one thread that owns the device and batches what unlike jobs ask for."""
