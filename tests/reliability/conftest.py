"""A world in which faults are tried: scripts/fault_world.py, on the tests' taught model."""

import sys
from pathlib import Path

import pytest
from tiny_runs import tiny_config

sys.path.append(str(Path(__file__).parents[2] / "scripts"))
from fault_world import SMALL, world_of, write_few


@pytest.fixture(scope="session")
def world(taught_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    config = tiny_config(taught_folder, write_few(folder), rounds=1, **SMALL)
    return world_of(config, folder)
