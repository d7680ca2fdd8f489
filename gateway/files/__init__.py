"""The store of uploaded and produced media."""
