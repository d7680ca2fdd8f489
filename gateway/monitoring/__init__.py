"""What is told of the service to whoever operates it: the context of a request, the metrics, and where both go."""
