"""What there is: templates, pages made of them, summaries of pages, feeds, cards in a cycle; and the views' file."""

from random import Random

from services.propagation.simulation.seeded.index import CALLED_VIEW, CALLS_TEXT
from services.propagation.simulation.seeded.site import OSCILLATES, Place

TEMPLATES = tuple(f"t{at}" for at in range(4))
PAGES = tuple(f"page/{at:02}" for at in range(12))
FEEDS = tuple(f"feed/{at}" for at in range(3))
CARDS = ("card/a0", "card/a1", "card/a2", "card/x0", "card/x1")
PLACES: tuple[Place, ...] = (
    *(("html", name) for name in PAGES),
    *(("summary", name) for name in PAGES),
    *(("feed", name) for name in FEEDS),
    *(("card", name) for name in CARDS),
)
VIEWS = ("html", "summary", "feed", "card")
SETTLE_S = 4.0
_MODULE = "services.propagation.simulation.seeded.renderer"


def recipe_for(name: str, rng: Random) -> dict[str, list[tuple[str, str]]]:
    """What the views of a document are made of, by view."""
    templates = [(one, rng.choice(["content", "content", "title"])) for one in rng.sample(TEMPLATES, rng.randrange(4))]
    if name.startswith("page/"):
        pages = rng.sample(PAGES, rng.randrange(1, 4))
        made_of = [(f"view/html/{page}", "content") for page in pages]
        return {"html": templates, "summary": [*made_of, (rng.choice(TEMPLATES), "title")]}
    if name.startswith("feed/"):
        return {"feed": [*templates, (f"view/html/{rng.choice(PAGES)}", "content")]}
    if name.startswith("card/"):
        kin = [card for card in CARDS if card[:6] == name[:6]]
        following = kin[(kin.index(name) + 1) % len(kin)]
        circle = [(f"view/card/{following}", "content")]
        return {"card": circle if name.startswith(OSCILLATES) else [*circle, *templates[:1]]}
    return {}


def oscillating(place: Place) -> bool:
    """Whether a place never settles, and what is made of it neither."""
    return place[1].startswith(OSCILLATES)


def views_text(rng: Random, left_out: str = "") -> str:
    """The views' file, perhaps without one of them. Times are drawn."""
    views = []
    for name, prefix, function, more in (
        ("html", "page/", "render", ""),
        ("summary", "page/", "render", ""),
        ("feed", "feed/", "render_blind", f"    settle_delay: {SETTLE_S}s\n"),
        ("card", "card/", "render", ""),
    ):
        if name == left_out:
            continue
        if name == CALLED_VIEW:
            more += CALLS_TEXT
        views.append(
            f"  - name: {name}\n"
            f"    resource_prefixes: [{prefix}]\n"
            f"    source_namespace: site\n"
            f'    render: {{entry_point: {{function: "{_MODULE}:{function}"}}, timeout: {rng.choice([2, 10])}s}}\n'
            f'    store: {{namespace: {name}, record: "{{resource}}"}}\n'
            f'    purge: {{urls: ["/{name}/{{resource}}"]}}\n'
            f"    retry: {{max_attempts: {rng.choice([2, 4])}, initial_backoff: 0.5s, max_backoff: 8s}}\n"
            f"    lease_time: {rng.choice([8, 15, 30])}s\n{more}"
        )
    return "views:\n" + "".join(views)
