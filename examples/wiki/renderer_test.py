"""The whole renderer: the entry point, and the real export judged by the demo's own checker."""

import asyncio
import os
import xml.etree.ElementTree as ET
from functools import cache
from pathlib import Path

import mwparserfromhell
import pytest

from examples.wiki import dump, renderer, titles
from examples.wiki.fake_site import Site, name
from libs.render.types import CONTENT, EXISTENCE, Document, RenderError, RenderRequest
from tools.demo import checker


@cache
def export():
    return {page.title: page.text for page in dump.read(Path(os.environ["ENWIKI_SAMPLE"]))}


def served(site, only=None):
    return {title: site.render(title) for title in only or export()}


@cache
def first_render():
    return served(Site(export()))


def bodies(results):
    return {title: result.body for title, result in results.items()}


def test_the_parser_is_the_fast_one():
    assert mwparserfromhell.parser.use_c


def test_a_page_that_is_not_there():
    result = Site({}).render("Nowhere")
    assert result.missing
    assert b"There is no page Nowhere." in result.body
    assert result.dependencies == []


def test_result():
    result = Site({"A b": "[[X]] {{T}}"}).render("A b")
    assert not result.missing
    assert result.content_type == "text/html; charset=utf-8"
    assert result.surrogate_keys == ["enwiki/page/A_b", "enwiki"]
    assert result.dependencies == [
        ("enwiki/page/Template:T", CONTENT),
        ("enwiki/page/Template:T", EXISTENCE),
        ("enwiki/page/X", EXISTENCE),
    ]


@pytest.mark.parametrize(
    ("resource", "value", "message"),
    [
        ("enwiki/page/a", b"", "is not a normalised name; write enwiki/page/A"),
        ("enwiki/image/A", b"", "is not of the form site/page/Title"),
        ("enwiki/page/A|B", b"", "a title may not hold"),
        ("enwiki/page/A", b"ab\xff", "enwiki/page/A is not UTF-8: byte 2"),
        ("enwiki/page/A", b"x" * (renderer.MAX_PAGE_BYTES + 1), "at most 2097152 are rendered"),
    ],
)
def test_what_only_an_edit_can_mend(resource, value, message):
    async def fetch(names):
        return {one: Document(value, bytes(16), "text/x-wiki") for one in names}

    with pytest.raises(RenderError, match=message) as caught:
        asyncio.run(renderer.render(RenderRequest(resource, "html", fetch)))
    assert not caught.value.retryable


def test_what_fetch_raises_comes_through():
    async def fetch(names):
        raise ConnectionError("storage is away")

    with pytest.raises(ConnectionError):
        asyncio.run(renderer.render(RenderRequest("enwiki/page/A", "html", fetch)))


def test_inputs_are_read_in_few_rounds_and_links_in_batches():
    rounds = []
    site = Site(
        {"Page": "{{A}}{{B}}" + "".join(f"[[L{n}]]" for n in range(250)), "Template:A": "{{C}}", "Template:C": "c"}
    )
    fetch = site.fetch

    async def counting(names):
        rounds.append(len(names))
        return await fetch(names)

    site.fetch = counting
    site.render("Page")
    assert rounds == [1, 2, 1, 100, 100, 50]


def test_every_page_of_the_real_export_is_well_formed_html():
    results = first_render()
    assert len(results) == 206
    for title, result in results.items():
        tree = ET.fromstring(result.body)
        assert tree.findtext("head/title") == title
        assert not result.missing
    assert b"calls itself" not in b"".join(bodies(results).values())


def test_the_renderer_and_the_judge_find_the_same_templates_on_the_same_pages():
    """Two readings of 206 pages that share no code: a scanner of brackets, and regular expressions."""
    counted = checker.census(checker.read_export(Path(os.environ["ENWIKI_SAMPLE"])))
    assert set(counted.titles) == set(export())
    found = {}
    for title, result in first_render().items():
        for resource, aspect in result.dependencies:
            _, dependency = titles.parse_resource(resource)
            if aspect == CONTENT and dependency.namespace == titles.TEMPLATE:
                found.setdefault(dependency.name, set()).add(title)
    assert found == counted.users
    assert len(found) == 953


def test_every_template_of_a_page_is_named_in_its_html():
    counted = checker.census(export())
    for title, body in bodies(first_render()).items():
        tree = ET.fromstring(body)
        named = {element.get("data-template") for element in tree.iter() if element.get("data-template")}
        expected = {template for template, users in counted.users.items() if title in users}
        assert expected <= named


@pytest.mark.parametrize(("template", "every"), [("Cite web", 1), ("Convert", 9), ("R from CamelCase", 9)])
def test_an_edit_reaches_every_dependent_and_nothing_else(template, every):
    """`every`: of the pages that do not depend, every how manieth is rendered again."""
    dependents = checker.census(export()).dependents(template)
    others = [title for title in export() if title not in dependents][::every]
    before = {title: first_render()[title] for title in [*dependents, *others]}
    site = Site(export())
    site.put(f"Template:{template}", "<b>edited-a1b2c3</b> {{{title|}}} {{{1|}}}", version=2)
    after = served(site, before)
    verdict = checker.verify(bodies(before), bodies(after), dependents, b"edited-a1b2c3")
    assert verdict.ok, verdict
    # What changed is exactly what had declared that it depends on it.
    resource = name(f"Template:{template}")
    declared = {title for title, result in before.items() if (resource, CONTENT) in result.dependencies}
    assert {title for title in before if before[title].body != after[title].body} == declared == dependents
    # Saved again, and changed only where it is not transcluded: the same bytes.
    site.put(f"Template:{template}", "<b>edited-a1b2c3</b> {{{title|}}} {{{1|}}}<noinclude>doc</noinclude>", version=3)
    again = bodies(served(site, sorted(dependents)[:10]))
    assert again == {title: after[title].body for title in again}
