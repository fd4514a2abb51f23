"""Wikitext that wants to do harm: scripts, forged marks, unpaired brackets, and whatever hypothesis thinks of.

Each must come out as well-formed HTML with only known elements and attributes; nothing may raise, and nothing may take
time that grows with the square of its length (a test that does would not end within its size).
"""

import xml.etree.ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples.wiki import preprocess, tame
from examples.wiki.fake_site import Site, body, render

ELEMENTS = (
    (tame.INLINE_TAGS | tame.BLOCK_TAGS | {"html", "head", "meta", "title", "body", "article", "a", "pre"})
    - {"big", "center", "font", "strike", "tt", "poem"}
)  # fmt: skip
_ATTRIBUTE_WORDS = (
    "align bgcolor border cellpadding cellspacing charset class clear colspan data-digest data-name data-template "
    "datetime dir headers height href id lang nowrap rel reversed rowspan scope start style title type valign value "
    "width"
)
ATTRIBUTES = set(_ATTRIBUTE_WORDS.split())
SCHEMES = ("/", "#", "http:", "https:", "ftp:", "ftps:", "irc:", "ircs:", "mailto:", "news:", "//")


def check(html):
    """The document is XML without a surprise in it; returns its tree."""
    tree = ET.fromstring(html)
    for element in tree.iter():
        assert element.tag in ELEMENTS
        assert set(element.attrib) <= ATTRIBUTES, element.attrib
        assert element.get("href", "#").lower().startswith(SCHEMES)
        style = element.get("style", "").lower()
        assert not any(word in style for word in ("url", "expression", "\\", "javascript", "/*"))
    assert "\x7f" not in html.decode()
    return tree


@pytest.mark.parametrize(
    "wikitext",
    [
        "<script>alert(1)</script>",
        "<SCRIPT SRC=//x></SCRIPT >",
        "<img src=x onerror=alert(1)>",
        "<b onmouseover='alert(1)' ONCLICK=x>x</b>",
        "<b title='\"><script>alert(1)</script>'>x</b>",
        "[javascript:alert(1) x] [JaVaScRiPt://%0aalert(1) x] [data:text/html,x y]",
        "[http://x\" onclick=\"alert(1) y]",
        "[[x|<script>]] [[\"><script>|y]] [[javascript:alert(1)]]",
        "<div style=\"background:url(javascript:alert(1))\">x</div>",
        "<div style=\"width:expression(alert(1))\">x</div>",
        "<div style=\"width:e\\xpression(alert(1));a:u/**/rl(x)\">x</div>",
        "<div style='&#117;rl(x)' style='color:red'>x</div>",
        "{| onclick=x style=behavior:url(x)\n| data-template=Forged | y\n|}",
        "&#60;script&#62; &lt;script&gt; &#0; &#127; &#x7f;H0&#x7f; &#xD800; &#x110000;",
        "\x7fH0\x7f \x7fL0\x7f \x7fR0\x7f \x00 \x1b",
        "<nowiki></nowiki><script></nowiki>",
        "<pre></pre><script>x</script>",
        "<math></math ><script>x</script>",
        "<ref name='\"><script>'>x</ref><ref group='\"><b>'>y</ref>",
        "== <script>x</script> \" ' ==",
        "{{x\"><script>|<script>}} {{#<script>:x}} {{#tag:script|alert(1)}} {{#tag:b|x|onclick=y}}",
        "{{#tag:ref|x|name=\"><script>}} {{PAGENAME|<script>}} {{{<script>}}}",
        "<gallery>\nx\"><script>|<script>\n]]<script>[[\n</gallery>",
        "<timeline>\n<script></timeline> <score \"><script>x</score>",
        "[[File:x.png|alt=\"><script>|<script>alert(1)</script>]] [[Category:<script>]] [[Category:\"|\"]]",
        "<br style=\"x\" onclick=y /><hr onclick=x><wbr/>",
        "__TOC__<b>__NOTOC__</b>",
        "#REDIRECT [[\"><script>]]",
        "<table><script><tr><td>x</table>",
        "\ud800 \udfff lone \ufffe \uffff",
    ],
)  # fmt: skip
def test_attacks(wikitext):
    result = Site({"Page": wikitext.encode("utf-8", "replace"), "Template:T": "x"}).render("Page")
    tree = check(result.body)
    assert not any(element.get("data-template") == "Forged" for element in tree.iter())


def test_a_title_cannot_break_out():
    site = Site({"A\"'&b": "[[A\"'&b]] {{FULLPAGENAME}}"})
    assert check(site.render("A\"'&b").body).findtext("head/title") == "A\"'&b"


# Each of these repeated is a known way to make a parser backtrack.
REPEATED = [
    "<b>", "<ref>", "<ref ", "<ref a=\"", "<br ", "<br>", "<x a=b ", "</b>", "<!--", "<nowiki>", "<math>", "<li>",
    "<td>", "<b a={{", "[[a|{{b|<i>", "[[", "[[a|b]", "[http://", "[http://a b", "{{", "{{{", "{{a|b=", "{{{a|",
    "{{a}", "}}", "{|\n|", "\n{|\n!a!!", "\n{|", "\n|}", "\n;a:b", "*", "#:", "=", "\n==a", "''", "'''''a''b",
    "''a\n'''b", "&", "&#x", "|", "\n|-", "----", " ", "\n", "http://", "http://a ", "<nowiki></nowiki", "<!-- --",
    "</nowiki x", "~~~~", "\n ", "<div>", "<div>\n", "<poem>", "<gallery>", "__TOC__", "#REDIRECT [[",
    "[[Category:", "[[File:a|", "{{#if:", "{{#tag:ref|",
]  # fmt: skip


@pytest.mark.parametrize("piece", REPEATED)
def test_time_stays_linear(piece):
    check(render(piece * (20_000 // len(piece))).body)
    check(render("{{T}}" + piece * 200, T=piece * 200).body)


@pytest.mark.parametrize(
    "wikitext",
    [
        "<div>" * 500 + "x" + "</div>" * 500,
        "{{T|" * 500 + "x" + "}}" * 500,
        "[[File:a|" * 500 + "]]" * 500,
        "\n{|\n|" * 100 + "x" + "\n|}" * 100,
        "{{#if:1|" * 500 + "x" + "}}" * 500,
        "{{{a|" * 500 + "x" + "}}}" * 500,
        "*" * 5000 + "x",
        "<ref>" * 200 + "x" + "</ref>" * 200,
        "<gallery>{{#tag:gallery|" * 100 + "}}</gallery>" * 100,
    ],
)
def test_deep_nesting(wikitext):
    check(render(wikitext, T="{{{1}}}").body)


_WORDS = (
    "a b x [[ ]] | || {{ }} {{{ }}} {| |} |- ! !! '' ''' == = * # : ; <b> </b> <div> </div> <ref> </ref> "
    "<ref/> <references/> <nowiki> </nowiki> <pre> </pre> <!-- --> <td> <br> <li> <table> </table> <tr> "
    "<small> </small> & &lt; &#60; \" ' < > [http://x ] http://y T T|1 1 #if: #switch: #tag:ref #default "
    "PAGENAME File: Category: : :Page <noinclude> </noinclude> <includeonly> <onlyinclude> </onlyinclude> "
    "<poem> </poem> <gallery> </gallery> #REDIRECT \x7f \x00 \ud800 é 漢 __TOC__ ---- style= title=x"
)
WORDS = st.sampled_from([" ", "\n", "\n\n", "\n", *_WORDS.split(" ")])
WIKITEXT = st.lists(st.one_of(WORDS, WORDS, WORDS, st.text(max_size=5)), max_size=60).map("".join)
MANY = settings(
    max_examples=400, deadline=None, database=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)


def encoded(text):
    return text.encode("utf-8", "replace")


@MANY
@given(WIKITEXT, WIKITEXT)
def test_anything_renders_to_well_formed_html_and_the_same_again(page, template):
    site = Site({"Page": encoded(page), "Template:T": encoded(template)})
    first = site.render("Page")
    check(first.body)
    assert site.render("Page") == first
    assert first.dependencies == sorted(set(first.dependencies))
    assert all(resource.startswith("enwiki/page/") for resource, _ in first.dependencies)
    # What it read is what it declared, the page itself apart.
    assert {resource for resource, _ in first.dependencies} == set(site.asked) - {"enwiki/page/Page"}


@MANY
@given(st.text())
def test_text_in_nowiki_is_shown_as_it_is(text):
    text = "".join(char for char in text if char.isprintable()).replace("<", "‹").replace("&", "+")
    tree = check(render(f"x<nowiki>{text}</nowiki>x").body)
    shown = "".join(tree.find("body/article/p").itertext())
    assert shown == f"x{text}x"


@MANY
@given(WIKITEXT)
def test_the_first_reading_loses_nothing(text):
    """The tree written back is the text, but for comments."""
    text = text.replace("<!--", "").replace("-->", "")

    def write(nodes):
        return "".join(one(node) for node in nodes)

    def one(node):
        if isinstance(node, str):
            return node
        if isinstance(node, preprocess.Verbatim):
            closed = "/>" if node.content is None else f">{node.content}</{node.name}>"
            return f"<{node.name}{node.attributes}{closed}"
        braces = ("{{", "}}") if isinstance(node, preprocess.Call) else ("{{{", "}}}")
        named = (("" if part.name is None else write(part.name) + "=") + write(part.value) for part in node.parts)
        return braces[0] + "|".join(named) + braces[1]

    assert write(preprocess.scan(text)) == text


@MANY
@given(WIKITEXT)
def test_taming_pairs_everything(text):
    """In what the parser gets, tags and brackets open and close in order."""
    for line in tame.logical_lines(text.replace("\x7f", "").replace("\n", " ")):
        stack = []
        for sign in tame._SIGN.finditer(line):
            if sign["tag"] and sign["rest"].endswith("/"):
                continue
            if sign["tag"]:
                name = sign["name"].lower()
                if sign["end"]:
                    assert stack.pop() == name
                else:
                    stack.append(name)
            elif sign[0] in ("[[", "["):
                stack.append(sign[0])
            elif sign[0] in ("]]", "]"):
                assert stack.pop() == {"]]": "[[", "]": "["}[sign[0]]
        assert not stack


def test_huge_pages_and_lines():
    check(render("x" * 1_900_000).body)
    assert body("''a'' " * 30_000).startswith("<p>''a''")
