"""The admin listener by itself: who is not answered, and what is no call."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import RawTestServer

from node.admin import Admin, Transfer


@pytest.fixture
async def http():
    book = SimpleNamespace(current=SimpleNamespace(cluster_id="c"))
    nobody = SimpleNamespace()
    admin = Admin(book, nobody, nobody, nobody, nobody)
    async with (
        RawTestServer(admin.serve) as server,
        ClientSession(server.make_url("/")) as session,
    ):
        yield session


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
async def test_a_web_page_cannot_act_with_an_operators_certificate(http, origin):
    async with http.post("/v1/drain", headers={"Origin": origin}) as answer:
        assert answer.status == 403
        assert "no browsers" in (await answer.json(content_type=None))["detail"]


async def test_without_a_certificate_nothing_is_done(http):
    async with http.post("/v1/drain") as answer:
        assert answer.status == 403
        assert "certificate" in (await answer.json(content_type=None))["detail"]


@pytest.mark.parametrize(
    "body", ['{"shard":256,"to":1}', '{"shard":-1,"to":1}', '{"shard":%s,"to":1}' % ("9" * 300),
             '{"shard":0,"to":0}', '{"shard":0,"to":9007199254740992}']
)  # fmt: skip
def test_a_shard_or_node_that_cannot_be_is_no_call_and_comes_into_no_event(body):
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body, type=Transfer)
