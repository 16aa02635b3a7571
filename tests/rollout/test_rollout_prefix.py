"""Prompts that begin alike end up in one group, and no row is ever lost."""

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from selfimprove.rollout import shared_prefix as prefix
from selfimprove.rollout.shared_prefix import GROUP_COST, cut_batches, group_prompts, split_long

CPU, GPU = GROUP_COST["cpu"], GROUP_COST["other"]
ROWS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), max_size=12)


def rows_of(groups, token_ids):
    """Every row of the groups with its tokens; checks that a prefix is shared and leaves something over."""
    seen = []
    for group in groups:
        assert len({p.token_ids[: group.shared] for p in group.prompts}) == 1
        for prompt in group.prompts:
            assert len(prompt.token_ids) > group.shared
            assert all(tuple(token_ids[row]) == prompt.token_ids for row in prompt.rows)
            seen += prompt.rows
    return seen


@given(ROWS, st.integers(1, 5))
def test_no_row_is_lost_or_doubled(token_ids, size):
    groups = group_prompts(token_ids, CPU)
    assert sorted(rows_of(groups, token_ids)) == list(range(len(token_ids)))
    batches = list(cut_batches(groups, size))
    assert sorted(row for batch in batches for row in rows_of(batch, token_ids)) == list(range(len(token_ids)))
    sizes = [sum(group.rows for group in batch) for batch in batches]
    assert all(s == size for s in sizes[:-1]) and all(0 < s <= size for s in sizes[-1:])


def test_few_shot_prefixes_are_found():
    rng = random.Random(0)
    shots = [[rng.randrange(9) for _ in range(n)] for n in (200, 250)]
    token_ids = [shots[i % 2] + [10 + i, 11, 12] for i in range(20)]
    token_ids.append([50, 51])
    groups = group_prompts(token_ids, CPU)
    assert sorted((g.shared, len(g.prompts)) for g in groups) == [(0, 1), (200, 10), (250, 10)]


def test_an_accelerator_reads_short_prefixes_rather_than_launch_for_a_group():
    shots = [[i] * 60 for i in range(20)]
    token_ids = [[1, 2, *shots[i % 20], 30 + i] for i in range(200)]
    assert len(group_prompts(token_ids, CPU)) == 20
    assert [g.shared for g in group_prompts(token_ids, GPU)] == [0]
    long = [[1, 2, *shots[i % 2] * 10, 30 + i] for i in range(200)]
    assert [g.shared for g in group_prompts(long, GPU)] == [602, 602]


def test_samples_of_one_prompt_share_all_but_its_last_token():
    (group,) = group_prompts([list(range(300))] * 8, CPU)
    assert (group.shared, group.rows, len(group.prompts)) == (299, 8, 1)


def test_sharing_little_is_not_worth_a_group():
    (group,) = group_prompts([[1, 2, 3], [1, 2, 4]], CPU)
    assert group.shared == 0


@given(ROWS)
def test_the_partition_is_the_best_there_is(token_ids):
    groups = group_prompts(token_ids, 7)
    total = sum(
        saving([p.token_ids for p in g.prompts], [len(p.rows) for p in g.prompts], 7) for g in groups if g.shared
    )
    unique = sorted({tuple(ids) for ids in token_ids})
    counts = [token_ids.count(list(ids)) for ids in unique]
    assert total == max(
        sum(max(0, saving(unique[a:b], counts[a:b], 7)) for a, b in itertools.pairwise(cuts))
        for cuts in partitions(len(unique))
    )


def test_a_few_long_prompts_do_not_widen_the_cache_of_all():
    long = [[i, *range(100 + 2 * i)] for i in range(4)]
    groups = group_prompts([[10 + i, 11, 12] for i in range(100)] + long, CPU)
    assert [(g.rows, g.longest_suffix) for g in groups] == [(104, 107)]
    parts = split_long(groups, CPU)
    assert sorted((g.rows, g.shared, g.longest_suffix) for g in parts) == [
        (1, 98, 3), (1, 100, 3), (1, 102, 3), (1, 104, 3), (100, 0, 3)
    ]  # fmt: skip


def test_on_an_accelerator_it_takes_many_rows_to_give_a_long_prompt_a_group_of_its_own():
    def widest(rows):
        groups = group_prompts([[10 + i, 11, 12] for i in range(rows)] + [[i, *range(400)] for i in range(4)], GPU)
        return max(group.longest_suffix for group in split_long(groups, GPU))

    assert (widest(100), widest(2000)) == (401, 3)


def test_unlike_lengths_alone_are_no_reason_to_split():
    groups = group_prompts([[i] * (3 + i) for i in range(20)], CPU)
    assert split_long(groups, CPU) == groups


@given(ROWS.filter(len), st.integers(1, 30))
def test_the_width_of_the_cache_is_the_best_there_is(token_ids, cost):
    groups = group_prompts(token_ids, cost)
    parts = split_long(groups, cost)
    assert sorted(rows_of(parts, token_ids)) == list(range(len(token_ids)))
    suffixes = [len(p.token_ids) - g.shared for g in groups for p in g.prompts]

    def costs(width):
        return len(token_ids) * width + cost * sum(n > width for n in suffixes)

    width = max(g.longest_suffix for g in parts)
    assert costs(width) == min(map(costs, suffixes))
    assert sum(g.shared > 0 for g in parts) <= sum(g.shared > 0 for g in groups) + sum(n > width for n in suffixes)


def saving(prompts, counts, cost):
    shared = min(next((i for i, column in enumerate(zip(*prompts, strict=False)) if len(set(column)) > 1), 99),
                 min(len(p) for p in prompts) - 1)  # fmt: skip
    return shared * (prefix._PREFILL * (len(prompts) - 1) + sum(counts) - len(prompts)) - cost


def partitions(n):
    """All ways to cut 0..n into runs (n limited so that this stays small)."""
    for inner in range(n):
        for cuts in itertools.combinations(range(1, n), inner):
            yield (0, *cuts, n)
    if n == 0:
        yield (0,)
