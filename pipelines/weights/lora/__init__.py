"""LoRA files: how their tensors are named, what they change and how, and whether a file fits a model."""
