"""The files of a deployment that are followed: its views and its rules."""

from services.propagation.domain.engine import Engine
from services.propagation.rules.rules import Rules
from services.propagation.views.catalogue import Catalogue
from services.propagation.views.file import FollowedFile


def views_file(path: str, catalogue: Catalogue, engine: Engine) -> FollowedFile:
    """The file whose views are put into the catalogue."""

    async def put(text: str, source: str) -> None:
        if text != catalogue.text:
            await catalogue.put(engine, text, source=source)

    return FollowedFile(path, "views", put)


def rules_file(path: str, rules: Rules) -> FollowedFile:
    """The file whose rules are put in force."""

    async def put(text: str, source: str) -> None:
        if text != rules.book.text or not rules.book.revision:
            await rules.put(text, source=source)

    return FollowedFile(path, "rules", put)
