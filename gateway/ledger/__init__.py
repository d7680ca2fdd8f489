"""The durable store of requests and their logs."""
