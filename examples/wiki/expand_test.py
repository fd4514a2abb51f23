"""Calls: arguments, inclusion, functions, loops and limits, and what each makes a dependency."""

import pytest

from examples.wiki import expand
from examples.wiki.fake_site import Site, body, render
from examples.wiki.include import as_page, as_template
from libs.render.types import CONTENT, EXISTENCE


def text(wikitext, **templates):
    """The expansion inside one paragraph."""
    return body(wikitext, **templates).removeprefix("<p>").removesuffix("</p>")


def contents(result):
    return [resource.removeprefix("enwiki/page/") for resource, aspect in result.dependencies if aspect == CONTENT]


def call(number, arguments=""):
    return "{{T" + str(number) + arguments + "}}"


@pytest.mark.parametrize(
    ("call", "template", "shown"),
    [
        ("{{T|a|b}}", "{{{1}}}-{{{2}}}", "a-b"),
        ("{{T| a |n= b }}", "[{{{1}}}][{{{n}}}]", "[ a ][b]"),
        ("{{T}}", "{{{1|x}}}{{{2|}}}", "x"),
        ("{{T|}}", "<{{{1|x}}}>", "&lt;&gt;"),
        ("{{T}}", "{{{1}}}", "{{{1}}}"),
        ("{{T|&lt;}}", "{{{1}}}[[a<b]]", "&lt;[[a&lt;b]]"),
        ("{{T|a|1=b}}", "{{{1}}}", "b"),
        ("{{T|1=b|a}}", "{{{1}}}", "a"),
        ("{{T|a=b=c}}", "{{{a}}}", "b=c"),
        ("{{T|n=x}}", "{{{{{{k|n}}}}}}", "x"),
        ("{{t|a}}", "{{{1}}}", "a"),
        ("{{ Template:T |a}}", "{{{1}}}", "a"),
        ("{{subst:T|a}}", "{{{1}}}", "a"),
        ("{{T|[[X|y]]}}", "{{{1}}}", '<a class="new" href="/enwiki/page/X" title="X">y</a>'),
        ("{{T|{{T|{{T|a}}}}}}", "({{{1}}})", "(((a)))"),
        ("a{{T}}b", "'", "a'b"),
        ("{{T<!-- {{no}} -->|a}}", "{{{1}}}", "a"),
        ("<nowiki>{{T}}</nowiki>", "no", "{{T}}"),
        ("{{T|<nowiki>a|b}}</nowiki>}}", "{{{1}}}", "a|b}}"),
        ("{{T|a{{!}}b}}", "{{{1}}}.{{{2|}}}", "a|b."),
        ("{{{{T}}}}", "U", "{{{{T}}}}"),
        ("{{ {{T}} }}", "U", '<span class="missing-template" data-template="U">{{U}}</span>'),
        ("{{T|x", "{{{1}}}", "{{T|x"),
        ("{{T|[[x}}", "{{{1}}}", "{{T|[[x}}"),
        ("T}}", "{{{1}}}", "T}}"),
        ("{{T}}", "*a\n*b", "<ul>\n<li>a</li>\n<li>b</li>\n</ul>"),
    ],
)
def test_calls_and_arguments(call, template, shown):
    assert text(call, T=template) == shown


@pytest.mark.parametrize(
    ("call", "shown"),
    [
        ("{{#if: x | yes | no }}", "yes"),
        ("{{#if:  | yes | no }}", "no"),
        ("{{#if:|yes}}.", "."),
        ("{{#if:{{Empty}}|yes|no}}", "no"),
        ("{{#ifeq: a | a |=|!}}", "="),
        ("{{#ifeq: 1.0 | 1 |=|!}}", "="),
        ("{{#ifeq: a | b |=|!}}", "!"),
        ("{{#switch: b |a=1|b=2|3}}", "2"),
        ("{{#switch: b |a|b|c=2|3}}", "2"),
        ("{{#switch: z |a=1|#default=d}}", "d"),
        ("{{#switch: z |a=1|d}}", "d"),
        ("{{#switch: z |a=1}}.", "."),
        ("{{lc:ABC}}{{uc:abc}}{{ucfirst:abc}}{{lcfirst:ABC}}", "abcABCAbcaBC"),
        ("{{formatnum:1234567.891}}{{formatnum:x}}", "1,234,567.891x"),
        ("{{PAGENAME}} {{FULLPAGENAME}} {{NAMESPACE}}.", "Page Page ."),
        ("{{ns:10}}{{ns:template}}", "TemplateTemplate"),
        ("{{DEFAULTSORT:x}}{{DISPLAYTITLE:y}}.", "."),
        ("{{urlencode:a b&}}", "a+b%26"),
        ("{{#tag:b|x}}", "<b>x</b>"),
        ("{{#expr:1+1}}", '<span class="unsupported" data-name="#expr:">{{#expr:1+1}}</span>'),
        ("{{#invoke:M|f|{{lc:X}}}}", '<span class="unsupported" data-name="#invoke:">{{#invoke:M|f|x}}</span>'),
        ("{{CURRENTYEAR}}", '<span class="unsupported" data-name="CURRENTYEAR">{{CURRENTYEAR}}</span>'),
        ("{{a[b}}", "{{a[b}}"),
        ("{{|x}}", "{{|x}}"),
    ],
)
def test_functions(call, shown):
    assert text(call, Empty="") == shown


@pytest.mark.parametrize(
    ("source", "page", "template"),
    [
        ("a<noinclude>b</noinclude>c", "abc", "ac"),
        ("a<includeonly>b</includeonly>c", "ac", "abc"),
        ("a<onlyinclude>b</onlyinclude>c<onlyinclude>d</onlyinclude>", "abcd", "bd"),
        ("a<noinclude>b", "ab", "a"),
        ("<nowiki><noinclude>a</noinclude></nowiki>", *["<nowiki><noinclude>a</noinclude></nowiki>"] * 2),
        ("<!-- <onlyinclude> -->a", *["<!-- <onlyinclude> -->a"] * 2),
        ("<NoInclude >a</NoInclude >b<noinclude/>c", "abc", "bc"),
        ("<onlyinclude>a<noinclude>b</noinclude></onlyinclude>", "ab", "a"),
    ],
)
def test_inclusion(source, page, template):
    assert (as_page(source), as_template(source)) == (page, template)


def test_every_call_is_a_dependency_and_leaves_its_name():
    result = render("{{A|{{B|{{Gone}}}}}} {{#if:|{{Unseen}}|{{C}}}} [http://x/{{D}} y]", A="a", B="b", C="c", D="d")
    assert contents(result) == [f"Template:{name}" for name in ("A", "B", "C", "D", "Gone")]
    existence = {resource for resource, aspect in result.dependencies if aspect == EXISTENCE}
    assert existence == {f"enwiki/page/Template:{name}" for name in ("A", "B", "C", "D", "Gone")}
    html = result.body.decode()
    # A's text does not show its argument, and D stands in an address: both are still named.
    for name in ("A", "B", "C", "D", "Gone"):
        assert f'data-template="{name}"' in html
    assert 'href="http://x/d"' in html


def test_a_missing_template_shows_its_call():
    shown = text("{{Cite web |url=http://x |title=''T'' <script> & {{Other}}}}")
    assert shown == (
        '<span class="missing-template" data-template="Cite web">{{Cite web|url=http://x '
        "|title=''T'' &lt;script&gt; &amp; "
        '<span class="missing-template" data-template="Other">{{Other}}</span>}}</span>'
    )


def test_the_digest_follows_what_is_transcluded_and_nothing_else():
    first = render("{{T}}", T="x<noinclude>old documentation</noinclude>").body
    assert b'data-template="T" data-digest="' in first
    assert render("{{T}}", T="x<noinclude>new documentation</noinclude>").body == first
    assert render("{{T}}", T="y").body != first
    site = Site({"Page": "{{T}}"})
    site.put("Template:T", "x", version=1)
    once = site.render("Page").body
    site.put("Template:T", "x", version=2)
    assert site.render("Page").body == once


def test_redirected_and_foreign_templates():
    site = Site({"Page": "{{Old|x}}", "Template:Old": "#REDIRECT [[Template:New]]", "Template:New": "new {{{1}}}"})
    result = site.render("Page")
    assert b"new x" in result.body
    assert contents(result) == ["Template:New", "Template:Old"]
    site = Site(
        {"Page": "{{:Earth}} {{Portal:Art}} {{/Sub}}", "Earth": "round", "Portal:Art": "art", "Page/Sub": "sub"}
    )
    result = site.render("Page")
    assert all(word in result.body for word in (b"round", b"art", b"sub"))
    assert contents(result) == ["Earth", "Page/Sub", "Portal:Art"]


def test_loops_are_shown_where_they_close():
    shown = text("{{A}}", A="a{{B}}", B="b{{A}}")
    assert shown == 'ab<strong class="error" data-template="A">A calls itself</strong>'
    site = Site({"Page": "x{{:Page}}"})
    result = site.render("Page")
    assert b":Page calls itself" in result.body
    assert result.dependencies == []
    site = Site({"Page": "{{A}}", "Template:A": "#REDIRECT [[Template:B]]", "Template:B": "#REDIRECT [[Template:A]]"})
    assert b'data-template="B"' in site.render("Page").body


def test_depth_is_limited():
    deep = expand.MAX_DEPTH + 20
    chain = {f"T{n}": call(n + 1) for n in range(deep)}
    site = Site({"Page": "{{T0}}"} | {f"Template:{key}": value for key, value in chain.items()})
    with pytest.raises(Exception, match="more than 50 levels"):
        site.render("Page")
    assert f"more than {expand.MAX_DEPTH} levels of calls" in text("{{T|" * 90 + "x" + "}}" * 90, T="{{{1}}}")


@pytest.mark.parametrize(
    "templates",
    [
        {f"T{n}": call(n + 1) * 10 for n in range(12)} | {"T12": "lol"},
        {f"T{n}": call(n + 1, "|{{{1}}}{{{1}}}") for n in range(40)} | {"T40": "{{{1}}}"},
        {f"T{n}": "{{Gone|" + call(n + 1) * 2 + "}}" for n in range(30)} | {"T30": "x" * 100},
        {"T0": "x" * 1_000_000 + "{{{1|}}}"},
    ],
    ids=["calls", "arguments", "placeholders", "size"],
)
def test_a_bomb_of_templates_stays_small_and_says_so(templates):
    result = render("{{T0|0123456789}}" * 5 + " the end", **templates)
    assert len(result.body) < 12 * expand.MAX_EXPANDED_CHARS
    assert b"the end" in result.body
    assert b'<strong class="error"' in result.body


def test_a_template_that_is_not_text_is_shown_as_an_error():
    assert text("{{T}}!", T=b"\xff\xfe") == '<strong class="error" data-template="T">T is not UTF-8 (byte 0)</strong>!'


def test_ifexist_depends_on_existence_only():
    result = render("{{#ifexist: Earth | yes | no }}")
    assert b"no" in result.body
    assert result.dependencies == [("enwiki/page/Earth", EXISTENCE)]
    assert b"yes" in Site({"Page": "{{#ifexist: Earth | yes | no }}", "Earth": ""}).render("Page").body
