"""The example configurations are ones that the services take."""

import os
from pathlib import Path

import pytest

from libs.config.config import load
from services.propagation.views.parsing import Defaults, mistakes_in
from wellspring.config.v1 import (
    auditor_pb2,
    executor_pb2,
    gateway_pb2,
    propagation_pb2,
    relay_pb2,
    session_pb2,
    storage_pb2,
)

HERE = Path(os.path.abspath(__file__)).parent
MESSAGES = {
    "storage": storage_pb2.StorageConfig,
    "session": session_pb2.SessionConfig,
    "propagation": propagation_pb2.PropagationConfig,
    "executor": executor_pb2.ExecutorConfig,
    "auditor": auditor_pb2.AuditorConfig,
    "relay": relay_pb2.RelayConfig,
    "gateway": gateway_pb2.GatewayConfig,
}


@pytest.mark.parametrize("service", sorted(MESSAGES))
def test_the_example_is_a_configuration(service):
    config = load(HERE / "config" / f"{service}.yaml", MESSAGES[service], environ={})
    assert config.server.listen


def test_the_example_on_a_cluster_is_a_configuration():
    config = load(HERE / "config" / "storage-cassandra.yaml", storage_pb2.StorageConfig, environ={})
    assert config.backend.WhichOneof("kind") == "cassandra" and config.backend.cassandra.replication["dc1"] == 3


def test_the_example_of_sessions_on_a_cluster_is_a_configuration():
    config = load(HERE / "config" / "session-cassandra.yaml", session_pb2.SessionConfig, environ={})
    assert config.backend.WhichOneof("kind") == "cassandra" and not config.create_keyring


def test_the_example_views_are_views():
    views, mistakes = mistakes_in((HERE / "config" / "views.yaml").read_text(), Defaults())
    assert not mistakes and [view.name for view in views] == ["html"]


@pytest.mark.parametrize("service", sorted(MESSAGES))
def test_each_service_has_a_unit_that_starts_it(service):
    unit = (HERE / "systemd" / f"wellspring-{service}.service").read_text()
    assert f"bin/wellspring serve {service} --config /etc/wellspring/{service}.yaml" in unit
    assert "RestartPreventExitStatus=78" in unit and "LimitCORE=0" in unit
