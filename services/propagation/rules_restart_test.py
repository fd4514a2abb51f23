"""kill -9 of the real server while its rules call: every acknowledged change is told, under the rules of its time.

The rules file is the process's own, and is changed under it.
"""

import asyncio
import json
from random import Random

import pytest

from services.propagation.simulation.processes import Process, Stubs, connected
from wellspring.propagation.v1 import propagation_admin_pb2 as admin
from wellspring.propagation.v1 import propagation_pb2 as pb

RULES = """
rules:
  tell:
    topic: wellspring.resource.changed.v1
    match: {aspects: [content], meta: {uri: '/^s\\/(?<n>\\d+)$/'}}
    concurrency: 4
    retry_delay: 20ms
    retry_limit: 50
    exec: {method: post, uri: 'http://127.0.0.1:PORT/PATH/{match.meta.uri.n}', body: '{{message}}'}
"""
CHANGES = 60


class Target:
    """Answers one in five with 503; keeps what it acknowledged."""

    def __init__(self, seed):
        self.rng = Random(seed)
        self.done = []

    async def serve(self, reader, writer):
        try:
            while line := await reader.readline():
                size = 0
                while (row := await reader.readline()) not in (b"\r\n", b""):
                    name, _, value = row.decode().partition(":")
                    size = int(value) if name.lower() == "content-length" else size
                json.loads(await reader.readexactly(size))
                await asyncio.sleep(self.rng.uniform(0, 0.02))
                bad = self.rng.random() < 0.2
                writer.write(f"HTTP/1.1 {503 if bad else 200} x\r\nContent-Length: 0\r\n\r\n".encode())
                if not bad:
                    self.done.append(line.split()[1].decode())
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the server was killed
        finally:
            writer.close()


async def publish(process, at):
    async with connected(process) as channel:
        change = pb.Change(id=f"c{at}", resource=f"s/{at}", version=(at + 1).to_bytes(16, "big"))
        answer = await Stubs(channel).propagation.PublishChanges(pb.PublishChangesRequest(changes=[change]))
        assert not answer.results[0].status.code


@pytest.fixture
def rules(tmp_path):
    return tmp_path / "rules.yaml"


def test_killed_while_rules_call_and_changed_under_way(tmp_path, rules):
    seed = 7
    print("seed", seed)
    rng = Random(seed)
    target = Target(seed)

    async def main():
        server = await asyncio.start_server(target.serve, "127.0.0.1", 0)
        text = RULES.replace("PORT", str(server.sockets[0].getsockname()[1]))
        rules.write_text(text.replace("PATH", "old"))
        process = Process(tmp_path / "data", f"rules_file={rules}")
        await asyncio.to_thread(process.start)
        try:
            for at in range(CHANGES):
                if at == CHANGES // 2:
                    await changed(process, text.replace("PATH", "new"))
                if at % 20 == 10:
                    await asyncio.sleep(rng.uniform(0, 0.2))
                    process.kill()
                    await asyncio.to_thread(process.start)
                await publish(process, at)
            wanted = {f"/{'old' if at < CHANGES // 2 else 'new'}/{at}" for at in range(CHANGES)}
            end = asyncio.get_running_loop().time() + 300
            while set(target.done) != wanted:
                assert asyncio.get_running_loop().time() < end, sorted(wanted - set(target.done))[:5]
                assert set(target.done) <= wanted, "an event ran under rules that it was not accepted under"
                await asyncio.sleep(0.05)
            async with connected(process) as channel:
                wanted_letters = admin.DeadLetterFilter(view="rule/")
                request = admin.QueryDeadLettersRequest(filter=wanted_letters)
                assert (await Stubs(channel).admin.QueryDeadLetters(request)).total == 0
        finally:
            process.kill()
            server.close()

    async def changed(process, text):
        rules.write_text(text)
        async with connected(process) as channel:
            stubs = Stubs(channel)
            for _ in range(2000):
                if (await stubs.admin.ListRules(admin.ListRulesRequest())).yaml == text:
                    return
                await asyncio.sleep(0.05)
        raise AssertionError("the file was not read again")

    asyncio.run(main())


def test_a_rules_file_with_mistakes_is_refused_at_the_start(tmp_path, rules):
    rules.write_text(RULES.replace("concurrency: 4", "limiters: {}"))
    process = Process(tmp_path / "data", f"rules_file={rules}")
    with pytest.raises(AssertionError) as caught:
        process.start()
    assert f"{rules}:6:" in str(caught.value) and "limiters" in str(caught.value)
    assert "Traceback" not in str(caught.value)
    rules.write_bytes(b"\xff\xfe")
    with pytest.raises(AssertionError, match="not UTF-8"):
        process.start()
