"""Seeds of a request's pictures (fooocus-facts 2.3)."""

import secrets

FOOOCUS_SEED = 2**63 - 1  # the greatest of Fooocus; fal prints greater ones of the fast endpoints
RANDOM_SEEDS = 2**53  # a drawn seed is below it, so that a JavaScript number can hold it exactly


def seeds_of(seed: int | None, count: int, greatest: int = FOOOCUS_SEED) -> tuple[int, ...]:
    """One seed per picture: `seed`, `seed + 1`, … from 0 again above `greatest`. None and integers outside 0..greatest
    mean random.
    """
    first = secrets.randbelow(RANDOM_SEEDS) if seed is None or is_replaced(seed, greatest) else seed
    return tuple((first + index) % (greatest + 1) for index in range(count))


def is_replaced(seed: int | None, greatest: int = FOOOCUS_SEED) -> bool:
    """Whether a random seed stands for one that was given."""
    return seed is not None and not 0 <= seed <= greatest
