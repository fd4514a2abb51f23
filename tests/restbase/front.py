"""The tables over HTTP, for the adapter in JavaScript: one POST an operation, JSON in and out, always 200."""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

import wellspring_client
from tests.restbase.catalog import Catalog
from tests.restbase.refusals import Refused
from tests.restbase.tables import Tables
from wellspring_client import aio

logger = logging.getLogger(__name__)


@asynccontextmanager
async def serving(storage: str) -> AsyncIterator[str]:
    """The front of the storage service at ``storage`` (host:port), as long as the context lasts: its URL."""
    async with aio.connect(storage=storage, timeout=60) as client:
        catalog = Catalog(client)
        await catalog.open()
        tables = Tables(client, catalog)

        async def answer(request: web.Request) -> web.Response:
            asked = json.loads(await request.read())
            try:
                told = await tables.answer(asked["operation"], asked["domain"], asked["table"], asked["body"])
            except Refused as refused:
                told = {"status": refused.status, "body": {"type": "bad_request", "stack": str(refused)}}
            except wellspring_client.WellspringError as error:
                logger.warning("storage refused: %s", error)
                told = {"status": 500, "body": {"type": error.reason, "stack": error.message}}
            return web.json_response(told)

        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0]
            yield f"http://{host}:{port}/"
        finally:
            await runner.cleanup()
