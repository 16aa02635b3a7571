"""A world in which faults are tried: scripts/bench/reliability/fault_world.py, on the tests' taught model."""

import pytest
from reliability.fault_world import SMALL, world_of, write_few
from tasks.tiny_runs import tiny_config


@pytest.fixture(scope="session")
def world(taught_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    config = tiny_config(taught_folder, write_few(folder), rounds=1, **SMALL)
    return world_of(config, folder)
