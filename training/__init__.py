"""What trains the models that the repository ships; not installed with the service, and not imported by it."""
