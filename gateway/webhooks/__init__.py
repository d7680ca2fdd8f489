"""Telling an address of the client's that its request has ended, as fal does (fal-protocol 5)."""
