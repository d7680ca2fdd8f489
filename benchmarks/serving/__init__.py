"""The service and a bare chain of the same shape on one Ray cluster, and what each of them takes."""
