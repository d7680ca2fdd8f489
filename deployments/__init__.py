"""What runs where: one Ray Serve deployment a file, the graph, settings."""
