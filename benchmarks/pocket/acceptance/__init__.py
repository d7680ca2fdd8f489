"""The gates: what each part of the pocket model must be shown to do, measured on the family's own files."""
