"""Keyed randomness: every random number is a pure function of what it is for.

No module draws from a global generator, so neither order, nor resume, nor distribution can change a result.
"""

from hashlib import blake2b


def seed_for(*key: object) -> int:
    """Return a 63-bit seed for `key`, e.g. `seed_for(run_seed, round, "sample", prompt_id, slot)`.

    The parts are joined with an unambiguous separator (their lengths are hashed too), so `("ab", "c")` and
    `("a", "bc")` differ.
    """
    digest = blake2b(digest_size=8)
    for part in key:
        data = str(part).encode()
        digest.update(len(data).to_bytes(4, "little"))
        digest.update(data)
    return int.from_bytes(digest.digest(), "little") >> 1
