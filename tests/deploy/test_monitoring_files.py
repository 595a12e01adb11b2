"""Prometheus of the containers scrapes every node on the way that the compose files give it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
NODES = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())
WATCHERS = yaml.safe_load((DEPLOY / "docker-compose.monitoring.yml").read_text())
PROMETHEUS = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
SCRAPED = {
    place["targets"][0]: place["labels"]
    for job in PROMETHEUS["scrape_configs"]
    if job["job_name"] == "quorumvault"
    for place in job["static_configs"]
}


def test_every_node_is_scraped_by_its_name_and_labelled_with_its_data_center():
    nodes = {name for name in NODES["services"] if name.startswith("node-")}
    assert {f"{name}:9090" for name in nodes} == SCRAPED.keys()
    for target, labels in SCRAPED.items():
        service = NODES["services"][target.partition(":")[0]]
        assert target == f"node-{labels['node']}:9090"
        assert labels["dc"] == service["hostname"]
        assert labels["dc"] in service["networks"]


def test_prometheus_stands_in_every_data_center_and_not_on_the_mesh():
    networks = set(WATCHERS["services"]["prometheus"]["networks"])
    assert networks == {labels["dc"] for labels in SCRAPED.values()} | {"monitoring"}
    assert networks - {"monitoring"} <= NODES["networks"].keys()


def test_prometheus_tells_the_alertmanager_that_is_there():
    (place,) = PROMETHEUS["alerting"]["alertmanagers"]
    assert place["static_configs"] == [{"targets": ["alertmanager:9093"]}]
    assert "monitoring" in WATCHERS["services"]["alertmanager"]["networks"]


@pytest.mark.parametrize("name", WATCHERS["services"])
def test_a_watcher_may_do_little_and_is_reached_on_loopback_alone(name):
    service = WATCHERS["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    mounts = [mount for mount in service["volumes"] if mount.startswith((".", "$"))]
    assert mounts
    assert all(mount.endswith(":ro") for mount in mounts)
    assert not any("secrets" in mount for mount in mounts), "PINs are no business of a watcher"
