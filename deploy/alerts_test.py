"""Each alert asks for figures that there are, and has a place in a runbook."""

import inspect
import os
import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from prometheus_client import CollectorRegistry

from libs.errors.errors import Code
from libs.telemetry import rpc_metrics
from services.propagation import canary_watch, metrics
from services.propagation.auditor.freshness import Freshness, Staleness
from services.propagation.auditor.metrics import AuditorCollector
from services.propagation.auditor.turn import Turn
from services.propagation.fleet import comparing
from services.propagation.fleet import metrics as fleet_metrics
from services.propagation.fleet import rules as fleet_rules
from services.propagation.homes import metrics as homes_metrics
from services.propagation.rules.metrics import RulesCollector
from services.propagation.rules.performing import Counters
from services.propagation.sharded.snapshots import metrics as snapshots_metrics
from services.session import canary, events
from services.session.audit import forwarding
from services.storage import measuring
from services.storage.cache.stats import CacheCollector
from services.storage.cache.stats import Stats as CacheStats
from services.storage.publishing.publication import Stats as PublishingStats

HERE = Path(os.path.abspath(__file__)).parent
RULES = [
    rule
    for file in sorted((HERE / "alerts").glob("*.yaml"))
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
]


class Sweeper:
    last = turn = Turn(1, 1)


def auditors():
    """All families of an auditor, by the names that Prometheus stores."""
    freshness = Freshness((10.0, 60.0))
    freshness.looks["gateway", "60s", "fresh"] += 1
    freshness.repairs["gateway", "failed"] += 1
    freshness.staleness["gateway"] = Staleness([1, 0, 0], 10.0)
    sweeper: Any = Sweeper()
    collected = AuditorCollector(freshness, sweeper).collect()
    return {sample.name: family for family in collected for sample in family.samples}


class Running:
    counters: ClassVar = {"tell": Counters()}
    waiting: ClassVar = {"tell": 0}


class Rules:
    runner = Running


def engines():
    """Families of an engine's rules, by the names that Prometheus stores."""
    rules: Any = Rules()
    return {sample.name: family for family in RulesCollector(rules).collect() for sample in family.samples}


def stores():
    """Names of a storage server's cache and publishing, as Prometheus stores them."""
    registry = CollectorRegistry()
    registry.register(CacheCollector(CacheStats()))
    stats = PublishingStats(registry)
    for counter in (stats.published, stats.failures, stats.gaps):
        counter.labels("ns").inc()
    return {sample.name for family in registry.collect() for sample in family.samples}


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_an_alert_is_about_figures_that_there_are(rule):
    there = {*auditors(), *engines(), *stores()}
    fleet = (comparing, fleet_metrics, fleet_rules)
    propagation = (metrics, canary_watch, homes_metrics, *fleet, snapshots_metrics)
    propagations = "".join(inspect.getsource(module) for module in propagation)
    sessions = inspect.getsource(canary) + inspect.getsource(events) + inspect.getsource(forwarding)
    others = inspect.getsource(measuring) + inspect.getsource(rpc_metrics)
    names = set(re.findall(r"\bwellspring_[a-z_]+", rule["expr"]))
    assert names
    for name in names:
        assert name in there or f'"{name.removesuffix("_total")}"' in propagations + sessions + others, name
    for delay in re.findall(r'delay="([^"]+)"', rule["expr"]):
        assert delay in {"10s", "60s", "300s"}
    for outcome in re.findall(r'wellspring_session_canaries_total\{outcome="([^"]+)"', rule["expr"]):
        assert outcome in canary.OUTCOMES
    for event in re.findall(r'event="([^"]+)"', rule["expr"]):
        assert event in events.LEVELS
    for code in re.findall(r'code=~?"([^"]+)"', rule["expr"]):
        assert set(code.split("|")) <= set(Code.__members__)
    for verdict in re.findall(r'verdict=~?"([^"]+)"', rule["expr"]):
        assert set(verdict.split("|")) <= {"fresh", "stale", "unknown", "unreachable"}


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_an_alert_says_what_to_do(rule):
    file, _, anchor = rule["annotations"]["runbook"].partition("#")
    text = (HERE.parent / file).read_text()
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^## (.+)$", text, re.M)
    }
    assert anchor in anchors and rule["annotations"]["summary"] and rule["labels"]["severity"] in ("page", "warning")
