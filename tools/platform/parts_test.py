"""The parts of the platform that need no service: ports, directories, site files, logs that are followed."""

import json
import os
import socket
import threading

import pytest

from tools.demo import wiki
from tools.platform import data_directory, health, ports, site
from tools.platform.data_directory import DataDirectory, DataDirectoryError
from tools.platform.layout import Layout, Route, fixed_ports
from tools.platform.log_follower import LONGEST_LINE_BYTES, LogFollower


def test_ports_are_those_of_the_readme():
    found = fixed_ports()
    assert (found["storage"], found["session"], found["propagation"], found["http"]) == (7101, 7102, 7103, 7180)
    many = fixed_ports(executors=16)
    used = [port for _, port in ports.wanted(many)]
    assert len(set(used)) == len(used) == 2 * len(many) - 1


def test_a_taken_port_is_noticed_with_what_it_is_for():
    base = ports.free_base()
    wanted = fixed_ports(base)
    assert ports.first_taken(wanted) is None
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", base + 101))
        taken.listen()
        assert ports.first_taken(wanted) == ("the metrics of session", base + 101)
    assert not ports.is_free(70_000)


def test_nobody_home_is_told_from_not_well():
    assert health.check(f"127.0.0.1:{ports.free_base()}", timeout_s=1) == health.UNREACHABLE


def test_a_directory_has_one_owner(tmp_path):
    path = tmp_path / "data"
    assert not data_directory.is_held(path)
    with DataDirectory(path) as directory:
        directory.describe({"storage": 1})
        assert data_directory.is_held(path)
        with pytest.raises(DataDirectoryError, match=f"process {os.getpid()}"), DataDirectory(path):
            pass
    assert not data_directory.is_held(path)
    described = data_directory.read(path)
    assert described is not None and described.ports == {"storage": 1} and described.pid == os.getpid()
    with DataDirectory(path):
        pass


def test_a_directory_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(DataDirectoryError, match="not a data directory"), DataDirectory(tmp_path):
        pass
    assert os.listdir(tmp_path) == ["a"]
    (tmp_path / "platform.json").write_text(json.dumps({"magic": data_directory.MAGIC, "format": 2}))
    with pytest.raises(DataDirectoryError, match="format 2"):
        data_directory.read(tmp_path)
    assert data_directory.read(tmp_path / "nowhere") is None


def test_the_example_sites_are_what_is_run_without_them():
    folder = site.Path(__file__).absolute().parents[2] / "deploy" / "sites"
    assert site.read(folder / "pages.yaml") == site.DEFAULT
    read = site.read(folder / "wiki.yaml")
    demo = wiki.layout(folder, fixed_ports())
    assert read.routes == demo.routes
    assert read.views.partition("\n")[2] == demo.views


def test_a_site_says_everything_that_a_layout_has(tmp_path):
    (tmp_path / "views.yaml").write_text("views: []\n")
    (tmp_path / "site.yaml").write_text(
        "views: views.yaml\npython_path: [renderers]\nexecutors: 2\n"
        "routes: [{path_prefix: /a/, namespace: a}]\n"
        "services: {storage: {telemetry: {log: {level: warning}}}}\n"
    )
    layout = site.read(tmp_path / "site.yaml").layout(tmp_path / "data", 7101)
    assert layout.processes == ["storage", "session", "propagation", "gateway", "executor", "auditor", "executor-2"]
    assert layout.routes == (Route("/a/", "a"),)
    assert layout.config("executor-2")["python_path"] == [str(tmp_path / "renderers")]
    assert layout.config("executor-2")["name"] == "executor-2"
    storage = layout.config("storage")["telemetry"]
    assert storage["log"] == {"level": "warning"} and storage["metrics_listen"] == "127.0.0.1:7201"


def test_a_layout_writes_a_configuration_for_each_process(tmp_path):
    layout = Layout(tmp_path, fixed_ports(), views="views: []\n", overrides={"gateway": {"max_age": "1s"}})
    layout.write()
    names = {file.name for file in (tmp_path / "config").iterdir()}
    assert names == {"views.yaml", *(f"{name}.yaml" for name in layout.processes)}
    assert "max_age: 1s" in layout.config_file("gateway").read_text()


@pytest.mark.parametrize(
    ("views", "reported"),
    [
        ("views: [{name: html, store: {namespace: a}}]", ("html", "site/")),
        ("views: [{name: html, store: {namespace: a, record: '{resource}'}}, {name: call}]", ("html", "site/")),
        ("views: [{name: html, store: {namespace: a, record: '{name}'}}]", ("", "")),
        ("views: [{name: b, store: {namespace: a}}, {name: c, store: {namespace: a}}]", ("", "")),
        ("views: [{name: html, store: {namespace: other}}]", ("", "")),
        ("views: 7", ("", "")),
        ("", ("", "")),
    ],
)
def test_reads_are_reported_as_those_of_the_view_that_fills_the_namespace(tmp_path, views, reported):
    layout = Layout(tmp_path, fixed_ports(), (Route("/a/", "a", "site/"), Route("/b/", "a", "", "v", "r/")), views)
    config = layout.config("gateway")
    assert config["propagation"] == {"addresses": [layout.address("propagation")]}
    mine, told = config["routes"]
    assert (mine["view"], mine["resource_prefix"]) == reported
    assert (told["view"], told["resource_prefix"]) == ("v", "r/")


def test_lines_are_followed_whole_and_in_order(tmp_path):
    """Written in pieces, begun late, cut off and begun anew, far too long: each whole line once."""
    file = tmp_path / "log"
    file.write_text("before\n")
    seen: list[tuple[str, str]] = []
    enough = threading.Event()

    def hear(name: str, line: str) -> None:
        seen.append((name, line))
        if line == "last":
            enough.set()

    follower = LogFollower({"a": file, "b": tmp_path / "later"}, hear)
    follower.start()
    with file.open("a") as writer:
        for piece in ("one\ntw", "o\n", "three\n", "x" * (2 * LONGEST_LINE_BYTES) + "\n"):
            writer.write(piece)
            writer.flush()
    (tmp_path / "later").write_text("last\n")
    assert enough.wait(30)
    file.write_text("anew\n")
    (tmp_path / "later").open("a").write("no end")
    follower.stop()
    assert [line[:10] for name, line in seen if name == "a"] == ["one", "two", "three", "x" * 10, "anew"]
    assert max(len(line) for _, line in seen) <= LONGEST_LINE_BYTES
    assert [line for name, line in seen if name == "b"] == ["last"]
