"""The table world of node_world, closed after each test."""

from __future__ import annotations

import pytest
from node_world import World
from phone import Phone


@pytest.fixture
async def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def phone(world):
    return Phone(world)
