from selfimprove.seeds import seed_for


def test_equal_keys_give_equal_seeds_and_neighbours_do_not():
    assert seed_for(0, 1, "sample", "ab", 3) == seed_for(0, 1, "sample", "ab", 3)
    assert len({seed_for(0, 1, "sample", f"p{i}", j) for i in range(100) for j in range(8)}) == 800


def test_parts_are_not_run_together():
    assert seed_for("ab", "c") != seed_for("a", "bc")


def test_seeds_fit_a_signed_64_bit_integer():
    assert all(0 <= seed_for(i) < 2**63 for i in range(1000))
