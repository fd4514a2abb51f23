"""The judge itself: its counts on constructs, on the real export, and its verdicts."""

import ast
import gzip
import os
from pathlib import Path

import mwparserfromhell
import pytest

from tools.demo import checker
from tools.demo.checker import census, read_export, template_calls, verify, words_after_braces


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("{{Cite web|url=x}} {{cite_web |y}} {{ Cite  web\n|z}}", {"Cite web": 3}),
        ("{{A|x={{b|{{c}}}}}}", {"A": 1, "B": 1, "C": 1}),
        ("<ref>{{A}}</ref> [[x|{{A}}]] {|\n| {{A}}\n|}", {"A": 3}),
        ("<!-- {{A}} --> <nowiki>{{A}}</nowiki> <math>{{A}}</math> {{A<!-- b -->}}", {"A": 1}),
        ("<!-- {{A}} never closed", {}),
        ("{{{1}}} {{{x|{{A}}}}} {{{{B}}", {"A": 1}),
        ("{{DEFAULTSORT:x}} {{formatnum:1}} {{#if:x|y}} {{!}} {{PAGENAME}} {{:Earth}} {{Portal:X}}", {}),
        ("{{Template:a}} {{subst:b}} {{Campaignbox X: Y}}", {"A": 1, "B": 1, "Campaignbox X: Y": 1}),
        ("{{OCLC|1}} {{Oclc|1}}", {"OCLC": 1, "Oclc": 1}),
        ("{{}} {{|}} {{\n}} {{[[x]]}}", {}),
    ],
)
def test_calls(text, calls):
    assert template_calls(text) == calls


def sample():
    return Path(os.environ["ENWIKI_SAMPLE"])


def test_real_export_has_the_counts_of_a_full_mediawiki():
    pages = read_export(sample())
    counted = census(pages)
    assert len(pages) == len(counted.titles) == 206
    assert counted.most_used == "Cite web"
    assert counted.calls["Cite web"] == 1943
    assert len(counted.dependents("Cite web")) == 87
    assert len(counted.dependents("Reflist")) == 98
    assert len(counted.users) == 953
    assert len(words_after_braces(pages)) == 966
    assert counted.dependents("No such template") == frozenset()


def test_real_export_agrees_with_a_template_parser():
    """A kept library's idea of what is a call, on every tenth page (it takes seconds for all)."""
    for text in list(read_export(sample()).values())[::10]:
        names = (str(call.name) for call in mwparserfromhell.parse(text).ifilter_templates())
        cleaned = (checker._COMMENT.sub("", name) for name in names)
        parsed = {checker._template(name) for name in cleaned if not name.strip().startswith("#")} - {""}
        assert parsed == set(template_calls(text))


def test_reads_every_compression_and_refuses_bad_files(tmp_path):
    xml = (
        b'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/"><page><title>A</title><revision><text>old</text>'
        b"</revision><revision><text>{{X}}</text></revision></page><page><title>B</title></page></mediawiki>"
    )
    (tmp_path / "a.xml").write_bytes(xml)
    (tmp_path / "a.gz").write_bytes(gzip.compress(xml))
    assert read_export(tmp_path / "a.xml") == read_export(tmp_path / "a.gz") == {"A": "{{X}}", "B": ""}
    (tmp_path / "empty.xml").write_bytes(b"<mediawiki/>")
    with pytest.raises(ValueError, match="holds no page"):
        read_export(tmp_path / "empty.xml")
    (tmp_path / "bomb.xml").write_bytes(b'<!DOCTYPE m [<!ENTITY a "aa">]><mediawiki>&a;</mediawiki>')
    with pytest.raises(ValueError, match="DTDForbidden"):
        read_export(tmp_path / "bomb.xml")


def test_verdicts():
    before = {"Uses": b"old", "Uses too": b"old", "Other": b"same", "Third": b"same"}
    good = {"Uses": b"new MARK", "Uses too": b"MARK new", "Other": b"same", "Third": b"same"}
    depends = {"Uses", "Uses too"}
    assert verify(before, good, depends, b"MARK").ok
    verdict = verify(before, good | {"Uses": b"old"}, depends, b"MARK")
    assert (verdict.stale, verdict.lost, verdict.touched, verdict.ok) == (["Uses"], [], [], False)
    # Changed is not enough: only the marker proves that the new version was used.
    assert verify(before, good | {"Uses": b"newer"}, depends, b"MARK").stale == ["Uses"]
    verdict = verify(before, good | {"Other": b"same "}, depends, b"MARK")
    assert (verdict.stale, verdict.touched, verdict.ok) == ([], ["Other"], False)
    verdict = verify(before, {"Uses": b"MARK", "New": b"x"}, {"Uses", "Never served"}, b"MARK")
    assert (verdict.lost, verdict.touched) == (["Never served", "Other", "Third", "Uses too"], ["New"])
    assert verify(before, before, (), b"MARK").ok


@pytest.mark.parametrize(
    ("marker", "message"), [(b"", "may not be empty"), (b"same", "served before the edit, by 'Other'")]
)
def test_a_marker_that_proves_nothing_is_refused(marker, message):
    with pytest.raises(ValueError, match=message):
        verify({"Other": b"same"}, {}, (), marker)


def test_an_export_without_templates_has_no_most_used():
    with pytest.raises(ValueError, match="no page of the export calls a template"):
        census({"A": "text"}).most_used  # noqa: B018


def test_the_judge_shares_no_code_with_what_it_judges():
    tree = ast.parse(Path(checker.__file__).read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not [
        name for name in imported if name and name.split(".")[0] in ("examples", "libs", "services", "wellspring")
    ]
