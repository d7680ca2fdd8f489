"""The memory of a device: what is planned for it, what lies on it, and what calls have shown to fit."""
