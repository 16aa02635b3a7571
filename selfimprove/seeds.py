"""Keyed randomness: every seed is a hash of the run seed and of its use (round, stage, prompt, sample).

No global generator is used, so results depend neither on order, nor on resume, nor on the number of processes.
"""

from hashlib import blake2b


def seed_for(*key: object) -> int:
    """Return a 63-bit seed for `key`, e.g. `seed_for(run_seed, round, "sample", prompt_id, slot)`.

    Parts are hashed as strings with their lengths, so `("ab", "c")` and `("a", "bc")` give different seeds.
    """
    digest = blake2b(digest_size=8)
    for part in key:
        data = str(part).encode()
        digest.update(len(data).to_bytes(4, "little"))
        digest.update(data)
    return int.from_bytes(digest.digest(), "little") >> 1
