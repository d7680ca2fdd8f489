"""Seeds of a request's pictures (fooocus-facts 2.3)."""

import secrets

from pipelines.spec import MAX_SEED

RANDOM_SEEDS = 2**53  # a drawn seed is below it, so that a JavaScript number can hold it exactly


def seeds_of(seed: int | None, count: int) -> tuple[int, ...]:
    """One seed per picture: `seed`, `seed + 1`, … modulo 2**63. None and integers outside 0..2**63-1 mean random."""
    first = seed if seed is not None and 0 <= seed <= MAX_SEED else secrets.randbelow(RANDOM_SEEDS)
    return tuple((first + index) % (MAX_SEED + 1) for index in range(count))
