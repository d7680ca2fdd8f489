"""A fleet of replicas, simulated: traces against the real policy, the real routing and the real order of claims."""
