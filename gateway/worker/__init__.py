"""Who draws what waits: claims, leases, runs, what they say, and what is cleared up."""
