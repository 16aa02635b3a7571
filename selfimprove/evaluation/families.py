"""Families of similar prompts, from their embeddings, and metrics within each family.

Metrics over all prompts hide a family whose prompts all get the same answer. Families are average-linkage clusters of
the prompt vectors (Sokal & Michener 1958), cut where the mean cosine between two clusters falls below `COSINE`. Small
clusters are pooled into one family, so that chance in a few prompts fails no check.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

COSINE = 0.5
"""Mean cosine from which two clusters of prompts are one family. On the 500 everyday questions (seven kinds, MiniLM)
all families are pure at 0.5; at 0.4 sums and products become one."""
LEAST = 8
"""Prompts of a family of its own; smaller clusters are pooled."""
PART = 0.1
"""Fraction of the held-out prompts that families must hold together for their change to count. Of 31 families with 13
prompts each one or two rose by more than 0.3 in most rounds, which were 14 to 18 points above the base."""
SURE = 0.4
"""Share of a family's samples in the base's majority from which a fall of it counts: below, the base guesses."""
EXACT = 3_000
"""Prompts clustered together; further ones join the family of their nearest clustered prompt."""
REST = "other"
"""Name of the family of small clusters."""

_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True, slots=True)
class Family:
    """A group of prompts, named by the commonest words of its texts."""

    name: str
    prompt_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FamilyMetrics:
    """Label-free metrics of one family of held-out prompts, fractions in [0, 1] and nats.

    `agreement` is the mean fraction of a prompt's samples that give its top answer, `top_fraction` the fraction of the
    prompts with a majority answer that have `top_answer`, `entropy` that of the majority answers over the prompts.
    Prompts without one do not count: a policy that answers readably for the first time is not more biased for it.
    `base_share` is the mean fraction of a prompt's samples that give the majority answer of the base's samples with
    other seeds; None in memories written before this metric existed.
    """

    name: str
    prompts: int
    agreement: float
    top_answer: str | None
    top_fraction: float
    entropy: float
    base_share: float | None = None


def families(ids: Sequence[str], texts: Sequence[str], vectors: np.ndarray) -> tuple[Family, ...]:
    """Return the families of prompts with unit `vectors` (n, d), the largest first; each prompt is in one.

    The result depends on the set of prompts, not on their order.
    """
    order = sorted(range(len(ids)), key=lambda row: ids[row])
    labels = _clusters(np.asarray(vectors, dtype=np.float64)[order])
    members: dict[int, list[int]] = defaultdict(list)
    for row, label in zip(order, labels, strict=True):
        members[label].append(row)
    everywhere = Counter(word for text in texts for word in _words(text))
    named: dict[str, list[int]] = defaultdict(list)  # clusters with the same common words are one family
    for rows in members.values():
        name = REST if len(rows) == 1 else _name([texts[row] for row in rows], everywhere, len(texts))
        named[name] += rows
    for name in [name for name, rows in named.items() if len(rows) < LEAST and name != REST]:
        named[REST] += named.pop(name)
    rest = sorted(named.pop(REST, []))
    found = sorted(named.items(), key=lambda item: (-len(item[1]), item[0]))
    if rest:
        found.append((REST, rest))
    return tuple(Family(name, tuple(sorted(ids[row] for row in rows))) for name, rows in found)


def _clusters(vectors: np.ndarray) -> list[int]:
    """Return a cluster number for each row of `vectors` (n, d)."""
    from scipy.cluster.hierarchy import fcluster, linkage

    if len(vectors) < 2:
        return [0] * len(vectors)
    step = -(-len(vectors) // EXACT)
    seeds = vectors[::step]
    labels = fcluster(linkage(seeds, method="average", metric="cosine"), 1 - COSINE, "distance")
    if step == 1:
        return [int(label) for label in labels]
    nearest = np.concatenate([np.argmax(block @ seeds.T, axis=1) for block in np.array_split(vectors, step)])
    return [int(label) for label in labels[nearest]]


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold()))


def _name(texts: Sequence[str], everywhere: Mapping[str, int], total: int) -> str:
    """Return up to three words that most texts of the family hold and others seldom do."""
    counts = Counter(word for text in texts for word in _words(text))

    def weight(word: str) -> float:  # fraction within the family less the fraction elsewhere
        elsewhere = (everywhere[word] - counts[word]) / max(1, total - len(texts))
        return counts[word] / len(texts) - elsewhere

    best = sorted(counts, key=lambda word: (-round(weight(word), 6), -len(word), word))[:3]
    chosen = [word for word in best if weight(word) > 0.2] or best[:1]
    if not chosen:
        return "numbers and signs"
    where = {word: min((t.casefold().find(word) for t in texts if word in _words(t)), default=0) for word in chosen}
    return " ".join(sorted(chosen, key=lambda word: where[word]))


def family_metrics(
    family: Family, answers: Mapping[str, Sequence[str | None]], base_shares: Mapping[str, float] | None = None
) -> FamilyMetrics | None:
    """Return the metrics of a family from the classes of each prompt's samples; None where no prompt was answered.

    `base_shares` maps a prompt id to the fraction of its samples that give the base's majority answer.
    """
    agreements: list[float] = []
    winners: Counter[str] = Counter()
    for prompt_id in family.prompt_ids:
        read = answers.get(prompt_id)
        if not read:
            continue
        counts = Counter(answer for answer in read if answer is not None)
        agreements.append(max(counts.values(), default=0) / len(read))
        winner = _top(counts)
        if winner is not None:
            winners[winner] += 1
    if not agreements:
        return None
    top = _top(winners)
    of_base = [base_shares[id_] for id_ in family.prompt_ids if base_shares and id_ in base_shares]
    shares = np.array(list(winners.values()), dtype=float) / max(1, winners.total())
    return FamilyMetrics(
        name=family.name,
        prompts=len(agreements),
        agreement=float(np.mean(agreements)),
        top_answer=top,
        top_fraction=0.0 if top is None else winners[top] / winners.total(),
        entropy=float(-(shares * np.log(shares)).sum()) if len(shares) else 0.0,
        base_share=float(np.mean(of_base)) if of_base else None,
    )


def _top(counts: Mapping[str, int]) -> str | None:
    return max(sorted(counts), key=lambda answer: counts[answer], default=None)


def rise(base: Sequence[FamilyMetrics], now: Sequence[FamilyMetrics]) -> float:
    """Return the rise of `top_fraction` over the base that families with over `PART` of the prompts reach; 0 if none.

    Families of fewer than `LEAST` prompts do not count.
    """
    return _reached(_rises(base, now), now)[0]


def mean_rise(base: Sequence[FamilyMetrics], now: Sequence[FamilyMetrics]) -> float:
    """Return the mean over prompts of the rise of their family's `top_fraction`; a fall counts as 0."""
    rises = [(max(0.0, by), family.prompts) for by, family in _rises(base, now)]
    return sum(by * prompts for by, prompts in rises) / max(1, sum(prompts for _, prompts in rises))


def most_risen(base: Sequence[FamilyMetrics], now: Sequence[FamilyMetrics]) -> FamilyMetrics | None:
    """Return the family whose rise is `rise`; None if too few were measured twice."""
    return _reached(_rises(base, now), now)[1]


def most_fallen(base: Sequence[FamilyMetrics], now: Sequence[FamilyMetrics]) -> FamilyMetrics | None:
    """Return the family whose fall is `fall`; None if too few were measured twice."""
    return _reached(_falls(base, now), now)[1]


def fall(base: Sequence[FamilyMetrics], now: Sequence[FamilyMetrics]) -> float:
    """Return the fall of `base_share` that families with over `PART` of the prompts reach; 0 if none.

    Families of fewer than `LEAST` prompts, and those where the base's share was below `SURE`, do not count.
    """
    return _reached(_falls(base, now), now)[0]


def _reached(
    changes: Sequence[tuple[float, FamilyMetrics]], now: Sequence[FamilyMetrics]
) -> tuple[float, FamilyMetrics | None]:
    """Return the largest change that families with over `PART` of all prompts reach, and the one that just reaches it.

    0 and None if those measured twice have no more prompts than that.
    """
    left = PART * sum(family.prompts for family in now)
    for by, family in sorted(changes, key=lambda change: -change[0]):
        left -= family.prompts
        if left < 0:
            return by, family
    return 0.0, None


def _falls(base: Sequence[FamilyMetrics], now: Sequence[FamilyMetrics]) -> list[tuple[float, FamilyMetrics]]:
    before = {f.name: f.base_share for f in base if f.base_share is not None and f.base_share >= SURE}
    return [
        (max(0.0, before[f.name] - f.base_share), f)
        for f in now
        if f.name in before and f.base_share is not None and f.prompts >= LEAST
    ]


def _rises(base: Sequence[FamilyMetrics], now: Sequence[FamilyMetrics]) -> list[tuple[float, FamilyMetrics]]:
    before = {family.name: family.top_fraction for family in base}
    return [(f.top_fraction - before[f.name], f) for f in now if f.name in before and f.prompts >= LEAST]
