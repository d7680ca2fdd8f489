"""Half an hour of everything that clients do, and what each process of the service then holds."""
