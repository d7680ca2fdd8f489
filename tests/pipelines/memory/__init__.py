"""Tests of the memory of a device: its plan, and what it is made of."""
