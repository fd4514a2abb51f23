"""The commands of storage and session, against a real platform."""

import json
from pathlib import Path

import pytest

from tools.cli import failures
from tools.cli.fixture import Shell, platform_shell

EXPORT = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" version="0.10">
<siteinfo><dbname>enwiki</dbname></siteinfo>{}</mediawiki>"""
PAGE = (
    "<page><title>{title}</title><ns>0</ns><id>{id}</id><revision><id>{id}</id>"
    "<timestamp>2020-01-01T00:00:00Z</timestamp><text>{text}</text></revision></page>"
)


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    with platform_shell(tmp_path_factory.mktemp("platform")) as started:
        yield started


@pytest.fixture(scope="module")
def notes(shell):
    shell.ok("storage", "namespaces", "create", "notes", "--mode", "CAS")
    return shell


def export(tmp_path: Path, *titles: str, end: str = "") -> Path:
    pages = "".join(PAGE.format(title=title, id=n + 1, text=f"text of {title}") for n, title in enumerate(titles))
    file = tmp_path / "export.xml"
    file.write_text(EXPORT.format(pages + end), encoding="utf-8")
    return file


def test_a_value_comes_back_byte_for_byte(notes: Shell, tmp_path):
    value = bytes(range(256)) * 3
    (tmp_path / "value").write_bytes(value)
    notes.ok("storage", "put", "notes", "bytes", "--file", str(tmp_path / "value"))
    assert notes.ok("storage", "get", "notes", "bytes").stdout_bytes == value
    told = notes.json("storage", "get", "notes", "bytes")
    assert (told["value_hex"], told["size_bytes"]) == (value.hex(), len(value))


def test_a_value_from_standard_input(notes: Shell):
    notes.ok("storage", "put", "notes", "piped", input=b"from a pipe")
    assert notes.ok("storage", "get", "notes", "piped").stdout_bytes == b"from a pipe"


def test_conditions_hold_or_say_what_is_there(notes: Shell):
    etag = notes.json("storage", "put", "notes", "once", "1", "--if-absent")["etag"]
    refused = notes.fails(failures.CONFLICT, "storage", "put", "notes", "once", "2", "--if-absent", "--json")
    assert etag in json.loads(refused.stderr)["error"]
    notes.ok("storage", "put", "notes", "once", "2", "--if-etag", etag)
    notes.fails(failures.CONFLICT, "storage", "put", "notes", "once", "3", "--if-etag", etag)
    assert notes.ok("storage", "get", "notes", "once").stdout == "2"


def test_what_is_not_there_has_a_status_of_its_own(notes: Shell):
    assert "nothing-here" in notes.fails(failures.NOT_FOUND, "storage", "get", "notes", "nothing-here").stderr
    notes.fails(failures.NOT_FOUND, "storage", "get", "no-such-namespace", "x")
    notes.fails(failures.NOT_FOUND, "storage", "delete", "notes", "nothing-here")
    notes.ok("storage", "delete", "notes", "nothing-here", "--allow-missing")
    notes.fails(failures.NOT_FOUND, "storage", "namespaces", "get", "no-such-namespace")


def test_bad_arguments_are_told_with_what_is_allowed(notes: Shell):
    for words, part in (
        (("storage", "put", "notes", "x", "y", "--ttl", "soon"), "such as 15m"),
        (("storage", "put", "notes", "x", "y", "--file", "z"), "not both"),
        (("storage", "namespaces", "create", "No Spaces"), "a-z"),
        (("storage", "namespaces", "create", "n", "--lane", "fast"), "--bind"),
        (("storage", "put", "notes", "k" * 5000, "v"), "record"),
        (("storage", "get", "notes", "x", "--address", "storage"), "SERVICE=HOST:PORT"),
        (("storage", "get", "notes", "x", "--address", "storage=nowhere:99999"), "SERVICE=HOST:PORT"),
        (("storage", "scan", "notes", "--limit", "0"), "--limit"),
    ):
        assert part in notes.fails(failures.USAGE, *words).stderr, words


def test_a_name_that_is_not_utf8_is_refused(notes: Shell):
    assert "UTF-8" in notes.fails(failures.USAGE, "storage", "get", "notes", "\udcff").stderr


def test_scan_pages_through_with_a_limit_that_is_told(notes: Shell):
    for number in range(5):
        notes.ok("storage", "put", "notes", f"scan-{number}", str(number))
    lines = notes.lines("storage", "scan", "notes", "--prefix", "scan-")
    assert [one["record"] for one in lines] == [f"scan-{n}" for n in range(5)]
    shown = notes.ok("storage", "scan", "notes", "--prefix", "scan-", "--limit", "2")
    assert "scan-1" in shown.stdout and "scan-2" not in shown.stdout and "more than 2" in shown.stderr


def test_watch_tells_what_happened_in_order(notes: Shell):
    notes.ok("storage", "namespaces", "create", "feed")
    notes.ok("storage", "put", "feed", "a", "1")
    notes.ok("storage", "put", "feed", "a", "22")
    notes.ok("storage", "delete", "feed", "a")
    events = notes.lines("storage", "watch", "feed", "--from-beginning", "--limit", "3")
    assert [(one["record"], one["created"], one["deleted"]) for one in events] == [
        ("a", True, False),
        ("a", False, False),
        ("a", False, True),
    ]


def test_a_namespace_ends_and_comes_back(notes: Shell):
    notes.ok("storage", "namespaces", "create", "gone", "--description", "for a while")
    notes.ok("storage", "namespaces", "delete", "gone", "--grace", "1h")
    assert "gone" not in [one["name"] for one in notes.lines("storage", "namespaces", "list")]
    notes.ok("storage", "namespaces", "undelete", "gone")
    assert notes.json("storage", "namespaces", "get", "gone")["description"] == "for a while"


def test_what_is_stored_cannot_move_the_terminal(notes: Shell):
    notes.ok("storage", "put", "notes", "escape", "\x1b[31m[bold]red")
    shown = notes.ok("storage", "scan", "notes", "--prefix", "escape").stdout
    assert "\x1b" not in shown and "[bold]" in shown


def test_a_session_from_login_to_revocation(shell: Shell, tmp_path):
    file = tmp_path / "token"
    made = shell.ok("session", "create", "ann", "--level", "2", "--set", "cart=3", "--token-file", str(file), "--json")
    token = file.read_text().strip()
    assert token and token not in made.stdout + made.stderr and file.stat().st_mode & 0o077 == 0
    told = shell.json("session", "validate", "--token-file", str(file), "--key", "*")
    assert told["level"] == 2 and told["data"] == {"cart": {"value": "3"}}
    assert shell.json("session", "validate", input=token.encode())["handle"] == told["handle"]
    assert [one["handle"] for one in shell.lines("session", "list", "ann")] == [told["handle"]]
    assert shell.json("session", "revoke", "--token-file", str(file))["revoked"] == 1
    ended = shell.fails(failures.FAILED, "session", "validate", "--token-file", str(file))
    assert token not in ended.stderr
    assert shell.lines("session", "list", "ann") == []


def test_a_token_goes_where_it_was_said_or_the_login_is_not_made(shell: Shell, tmp_path):
    shell.fails(failures.USAGE, "session", "create", "bob")
    file = tmp_path / "there"
    file.write_text("mine")
    shell.fails(failures.FAILED, "session", "create", "bob", "--token-file", str(file))
    assert file.read_text() == "mine" and shell.lines("session", "list", "bob") == []
    lost = tmp_path / "new"
    shell.fails(failures.NOT_FOUND, "session", "create", "bob", "--realm", "none-such", "--token-file", str(lost))
    assert not lost.exists()
    assert shell.json("session", "create", "bob", "--show-token")["token"]


def test_tokens_that_are_none(shell: Shell):
    for given in (b"", b"\xff\xfe", b"x" * 5000):
        shell.fails(failures.USAGE, "session", "validate", input=given)
    assert "nonsense-secret" not in shell.runs("session", "validate", input=b"nonsense-secret").stderr
    shell.fails(failures.USAGE, "session", "revoke")
    shell.fails(failures.USAGE, "session", "revoke", "--subject", "a", "--whole-realm")


def test_an_import_goes_on_where_it_stopped(shell: Shell, tmp_path):
    first = export(tmp_path, "One", "Two")
    shell.fails(failures.NOT_FOUND, "import", str(first), "pages")
    told = shell.json("import", str(first), "pages", "--create")
    assert (told["stored"], told["skipped"], told["refused"]) == (2, 0, [])
    told = shell.json("import", str(export(tmp_path, "One", "Two", "Three and four")), "pages")
    assert (told["stored"], told["skipped"]) == (1, 2)
    assert shell.ok("storage", "get", "pages", "Three_and_four").stdout == "text of Three and four"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not xml at all",
        b"<html></html>",
        b"\x1f\x8b\x08damaged",
        b"BZh9damaged",
        EXPORT.format(PAGE.format(title="A", id=1, text="x")).encode()[:-40],
        b'<!DOCTYPE m [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><mediawiki>&b;</mediawiki>',
        EXPORT.format(PAGE.format(title="A\xff", id=1, text="x")).encode("latin-1"),
    ],
)
def test_a_hostile_export_changes_nothing(shell: Shell, tmp_path, content):
    shell.ok("storage", "namespaces", "create", "hostile")
    file = tmp_path / "bad.xml"
    file.write_bytes(content)
    failed = shell.fails(failures.BAD_DATA, "import", str(file), "hostile")
    assert str(file) in failed.stderr and "Traceback" not in failed.stderr
    assert shell.lines("storage", "scan", "hostile") == []


def test_pages_with_impossible_titles_are_named_and_the_others_stored(shell: Shell, tmp_path):
    failed = shell.fails(
        failures.BAD_DATA, "import", str(export(tmp_path, "Good", "a|b")), "titles", "--create", "--json"
    )
    assert [one["title"] for one in json.loads(failed.stdout)["refused"]] == ["a|b"]
    assert shell.ok("storage", "get", "titles", "Good").stdout == "text of Good"


def test_a_service_that_is_away(shell: Shell):
    failed = shell.fails(
        failures.UNAVAILABLE, "storage", "get", "notes", "x", "--address", "storage=127.0.0.1:9", "--timeout", "1"
    )
    assert "Traceback" not in failed.stderr
