"""What a configuration of several data centres may not say."""

import pytest

from libs.config.config import parse
from libs.errors.errors import InvalidArgument
from services.propagation.homes.opening import places
from wellspring.config.v1 import propagation_pb2

GOOD = """
backend: {embedded: {path: /data}}
storage: {addresses: ["127.0.0.1:8001"]}
datacentre: west
homes:
  - {datacentre: east, propagation: {addresses: ["10.0.0.1:8003"]}}
  - {datacentre: north, propagation: {addresses: ["10.0.1.1:8003"]}}
"""


def test_the_own_data_centre_comes_first():
    assert places(parse(GOOD, propagation_pb2.PropagationConfig, source="a test")) == ("west", "east", "north")
    assert places(propagation_pb2.PropagationConfig()) == ("",)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("datacentre: west", "", "datacentre: is missing"),
        ('storage: {addresses: ["127.0.0.1:8001"]}', "", "storage: is missing"),
        ("datacentre: north", "datacentre: east", "homes: name a data centre twice"),
        ("datacentre: north", "datacentre: west", "homes: name a data centre twice"),
    ],
)
def test_each_mistake_is_named(old, new, says):
    assert GOOD.count(old) == 1
    with pytest.raises(InvalidArgument, match=says):
        places(parse(GOOD.replace(old, new), propagation_pb2.PropagationConfig, source="a test"))
