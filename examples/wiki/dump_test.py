"""Exports: every schema and compression, the real one, and files that are broken or mean harm."""

import bz2
import gzip
import os
import tracemalloc
from pathlib import Path

import pytest

from examples.wiki import dump
from examples.wiki.dump import DumpError, Limits, Page


def xml(pages, schema="0.10", siteinfo="<dbname>enwiki</dbname>"):
    return (
        f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-{schema}/" version="{schema}" xml:lang="en">\n'
        f"<siteinfo>{siteinfo}</siteinfo>\n{pages}</mediawiki>\n"
    ).encode()


def page(title="A", text="text", ns="<ns>0</ns>", more=""):
    return (
        f"<page><title>{title}</title>{ns}<id>1</id>{more}<revision><id>2</id><timestamp>2016-01-01T00:00:00Z</timestamp>"
        f'<contributor><username>U</username><id>9</id></contributor><text xml:space="preserve">{text}</text>'
        "</revision></page>\n"
    )


def read(tmp_path, data, limits=None, name="d.xml"):
    (tmp_path / name).write_bytes(data)
    return list(dump.read(tmp_path / name, limits))


def test_a_page(tmp_path):
    data = xml(page("A &amp; B", "x\n&lt;ref&gt; é"))
    expected = [Page("A & B", 0, 1, 2, "2016-01-01T00:00:00Z", "x\n<ref> é", None)]
    assert read(tmp_path, data) == expected
    assert read(tmp_path, bz2.compress(data)) == expected
    assert read(tmp_path, gzip.compress(data)) == expected
    assert read(tmp_path, b"\xef\xbb\xbf<?xml version='1.0' encoding='utf-8'?>\n" + data) == expected
    # Wikimedia's multistream files are many bzip2 streams in one.
    assert read(tmp_path, bz2.compress(data[:100]) + bz2.compress(data[100:])) == expected


@pytest.mark.parametrize("schema", [f"0.{minor}" for minor in range(3, 12)])
def test_every_schema(tmp_path, schema):
    (tmp_path / "d.xml").write_bytes(xml(page(), schema))
    summary = dump.check(tmp_path / "d.xml")
    assert (summary.schema, summary.pages, summary.site, summary.text_bytes) == (schema, 1, "enwiki", 4)


def test_old_schemas_have_neither_ns_nor_the_target_of_a_redirect(tmp_path):
    siteinfo = '<namespaces><namespace key="0"/><namespace key="10">Vorlage</namespace></namespaces>'
    pages = page("Vorlage:X", ns="") + page("Not: a namespace", ns="")
    pages += page("R", "#WEITERLEITUNG [[Ziel#x|y]]", ns="", more="<redirect/>") + page(
        "Q", "?", ns="", more="<redirect/>"
    )
    found = read(tmp_path, xml(pages, "0.4", siteinfo))
    assert [one.namespace for one in found] == [10, 0, 0, 0]
    assert [one.redirect for one in found] == [None, None, "Ziel#x", None]


def test_redirects_revisions_suppressed_texts_and_slots(tmp_path):
    history = (
        '<page><title>A</title><ns>0</ns><id>1</id><redirect title="B"/>'
        "<revision><id>2</id><text>old</text></revision>"
        "<revision><id>3</id><origin>3</origin><text>new</text>"
        "<content><role>x</role><origin>3</origin><text>slot</text></content></revision>"
        "<upload><timestamp>t</timestamp><filename>f</filename></upload></page>"
        '<page><title>B</title><ns>0</ns><id>4</id><revision><id>5</id><text deleted="deleted"/></revision></page>'
        "<page><title>C</title><ns>0</ns><id>6</id></page>"
    )
    first, second, third = read(tmp_path, xml(history, "0.11"))
    assert (first.revision_id, first.text, first.redirect) == (3, "new", "B")
    assert (second.text, third.text, third.revision_id) == ("", "", 0)


def test_the_real_export():
    path = Path(os.environ["ENWIKI_SAMPLE"])
    summary = dump.check(path)
    assert (summary.pages, summary.site, summary.schema) == (206, "enwiki", "0.10")
    pages = list(dump.read(path))
    assert len({one.title for one in pages}) == 206
    assert sum(one.redirect is not None for one in pages) == 100
    assert sum(one.namespace != 0 for one in pages) == 1
    assert pages[0].title == "AccessibleComputing"
    assert pages[0].redirect == "Computer accessibility"


BOMB = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))

BROKEN = {
    "lol entities": (f'<!DOCTYPE m [<!ENTITY l0 "lol">{BOMB}]>'.encode() + xml(page(text="&l9;")), "document type"),
    "external entity": (
        b'<!DOCTYPE m [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + xml(page(text="&x;")),
        "document type",
    ),
    "external dtd": (b'<!DOCTYPE m SYSTEM "http://127.0.0.1:9/x.dtd">' + xml(page()), "document type"),
    "unknown entity": (xml(page(text="&nosuch;")), "not well-formed .undefined entity"),
    "empty": (b"", "the file is empty; needed is a MediaWiki XML export"),
    "empty bz2": (bz2.compress(b""), "the file is empty"),
    "not xml": (b"hello", "the file is not XML"),
    "html": (b"<html><body/></html>", "not a MediaWiki export: its first element is <html>"),
    "rss": (b'<feed xmlns="http://www.w3.org/2005/Atom"/>', "first element is <feed> of 'http://www.w3.org/2005/Atom'"),
    "schema 0.2": (xml(page(), "0.2"), "N from 3 to 11"),
    "schema 0.12": (xml(page(), "0.12"), "N from 3 to 11"),
    "utf-16": ("\ufeff<mediawiki/>".encode("utf-16"), "UTF-16 or binary"),
    "latin-1 declared": (b'<?xml version="1.0" encoding="iso-8859-1"?>' + xml(page()), "the text is in 'iso-8859-1'"),
    "latin-1 undeclared": (xml(page(text="caf\u00e9")).decode().encode("latin-1"), "not UTF-8"),
    "nul": (xml(page(text="a\x00b")), "not well-formed"),
    "cut xml": (xml(page() + page("B"))[:-200], "the XML ends early: the export was cut off"),
    "cut bz2": (bz2.compress(xml(page()))[:-20], "the compressed file ends early"),
    "cut gzip": (gzip.compress(xml(page()))[:-12], "the compressed file ends early"),
    "damaged bz2": (bz2.compress(xml(page()))[:40] + bytes(40), "the compressed data is damaged"),
    "damaged gzip": (gzip.compress(xml(page()))[:30] + b"\xff" * 60, "the compressed data is damaged"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(50), "the file is a 7z archive"),
    "zip": (b"PK\x03\x04" + bytes(50), "the file is a zip archive"),
    "wrong nesting": (xml("<page><title>A</page></title>"), "not well-formed .mismatched tag"),
    "two roots": (xml(page()) * 2, "not well-formed"),
    "no title": (xml("<page><id>1</id></page>"), "a page has no <title>"),
    "empty title": (xml(page(" ")), "a page's title is ''"),
    "control in title": (xml(page("a&#x85;b")), "may neither be empty nor hold control characters"),
    "long title": (xml(page("a" * 513)), "the title has more than 512 bytes"),
    "bad id": (xml(page(ns="<ns>ten</ns>")), "the <ns> of 'A' is 'ten'; needed is a whole number"),
    "huge id": (xml(page(ns=f"<ns>{'9' * 4000}</ns>")), "needed is a whole number"),
    "deep": (xml("<a>" * 100 + "</a>" * 100), "elements nest more than 16 deep"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_and_hostile_exports(tmp_path, name):
    data, message = BROKEN[name]
    with pytest.raises(DumpError, match=message) as caught:
        read(tmp_path, data)
    assert str(tmp_path / "d.xml") in str(caught.value)
    assert "line " in str(caught.value)
    assert "defused" not in str(caught.value).lower()


def test_the_error_says_where(tmp_path):
    data = xml(page("First") + page("Second") + "<page><title>Third</title><ns>x</ns></page>")
    with pytest.raises(DumpError) as caught:
        read(tmp_path, data)
    error = caught.value
    assert (error.line, error.offset_bytes) == (5, 0)
    # All in one chunk: what was complete before the mistake is counted too.
    assert (error.pages, error.last_title) == (2, "Second")
    assert "after 2 pages, the last of them 'Second'" in str(error)


def test_pages_before_a_mistake_are_yielded_and_then_it_raises(tmp_path):
    filler = "x" * 100_000
    (tmp_path / "d.xml").write_bytes(xml(page("A", filler) + page("B", filler) + page("C", filler))[:-50_000])
    seen = []
    with pytest.raises(DumpError, match="after 2 pages, the last of them 'B'"):
        seen.extend(one.title for one in dump.read(tmp_path / "d.xml"))
    assert seen == ["A", "B"]
    with pytest.raises(DumpError):
        dump.check(tmp_path / "d.xml")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (xml(page(text="x" * 1001)), "the text of 'A' has more than 1000 bytes"),
        (xml(page(text="é" * 501)), "the text of 'A' has more than 1000 bytes"),
        (xml(page(more=f"<comment>{'x' * 3000}</comment>")), "more than 2000 bytes that belong to no page's text"),
        (xml("<junk>a</junk>" * 1000 + page()), "more than 2000 bytes that belong to no page's text"),
        (xml(" " * 300_000 + page()), "more than 2000 bytes that belong to no page's text"),
        (xml("<!-- comment -->" * 20_000 + page()), "more than 2000 bytes that belong to no page's text"),
        (xml(f'<a b="{"x" * 300_000}"/>' + page()), "more than 2000 bytes that belong to no page's text"),
    ],
)
def test_limits(tmp_path, data, message):
    with pytest.raises(DumpError, match=message):
        read(tmp_path, data, Limits(page_bytes=1000, gap_bytes=2000))


def test_total_size(tmp_path):
    with pytest.raises(DumpError, match="the export has more than 100 bytes"):
        read(tmp_path, xml(page()), Limits(total_bytes=100))


@pytest.mark.parametrize("compress", [bz2.compress, gzip.compress])
def test_a_decompression_bomb_is_stopped_in_little_memory(tmp_path, compress):
    head, tail = xml(page("A", "SPLIT")).split(b"SPLIT")
    path = tmp_path / "bomb"
    path.write_bytes(compress(head + b"x" * 200_000_000 + tail))
    tracemalloc.start()
    try:
        with pytest.raises(DumpError, match="the text of 'A' has more than 8388608 bytes|grows more than 1000 times"):
            list(dump.read(path))
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024 * 1024
    finally:
        tracemalloc.stop()
    path.write_bytes(compress(xml(page(text="x" * 10_000) * 3000)))
    with pytest.raises(DumpError, match="grows more than 50 times when decompressed"):
        list(dump.read(path, Limits(ratio=50)))


def test_memory_does_not_grow_with_the_export(tmp_path):
    path = tmp_path / "long.xml"
    path.write_bytes(xml("".join(page(f"P{n}", os.urandom(5000).hex()) for n in range(3000))))
    tracemalloc.start()
    try:
        assert sum(1 for _ in dump.read(path)) == 3000
        assert tracemalloc.get_traced_memory()[1] < 4 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DumpError, match="the file cannot be read: No such file"):
        list(dump.read(tmp_path / "none"))
    with pytest.raises(DumpError, match="the file cannot be read: Is a directory"):
        list(dump.read(tmp_path))
