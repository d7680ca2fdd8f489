"""Image operations on 8-bit arrays: resizing rules and annotators."""
