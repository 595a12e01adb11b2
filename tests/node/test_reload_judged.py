"""A reload takes what may change at once, tells the rest, and lets a bad file change nothing."""

from __future__ import annotations

import datetime as dt
import os

import jwt
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from link_mesh import CLUSTER_ID, HOSTS, cluster_file, write_tls
from node_toml import node_toml
from reissue import reissue

from cluster.certificates import TlsFiles, create_authority, issue, node_uri, operator_uri
from node import pair as pairs
from node import reload
from node.admission import AccountRate, Slots
from node.config import ConfigError
from node.events import MAX_TEXT, Events, Query
from node.foreign import cut
from node.problems import Problem
from node.reload import Reloader
from node.reload_plan import plan
from node.tokens import Scope, Tokens

CONFIG = node_toml('[limits]\nbody_bytes = 9000\n[log]\nlevel = "info"', iss="one")
FILTERING = structlog.make_filtering_bound_logger(0)
NODE = node_uri(CLUSTER_ID, 1)
DAY = dt.timedelta(days=1)


class Ground:
    """One node's files, and a reloader that keeps what it was told to use."""

    def __init__(self, root) -> None:
        self.root = root
        self.authority = create_authority("demo")
        self.tls = write_tls(root, self.authority, NODE)
        self.write_tenant()
        self.path = root / "node.toml"
        self.path.write_text(CONFIG)
        self.used = []
        self.logged = []
        log = structlog.wrap_logger(
            structlog.PrintLogger(), processors=[self.hear], wrapper_class=FILTERING
        )
        self.events = Events(log)
        self.wrong: Exception | None = None
        cluster = cluster_file()
        self.reloader = Reloader(
            self.path, reload.read(self.path), cluster, cluster.node(1), self.use, self.events
        )

    def use(self, found) -> None:
        if self.wrong is not None:
            raise self.wrong
        self.used.append(found)

    def hear(self, _logger, _method, event):
        self.logged.append(event)
        raise structlog.DropEvent

    @property
    def last(self) -> tuple[str, str, str]:
        event = self.events.page(Query()).events[-1]
        return event.kind, event.level, event.text

    def write_tenant(self, name: str = "tenant.pem") -> ed25519.Ed25519PrivateKey:
        key = ed25519.Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (self.root / name).write_bytes(public)
        return key

    def edit(self, old: str, new: str) -> None:
        text = self.path.read_text()
        assert old in text
        self.path.write_text(text.replace(old, new))

    def put(self, issued) -> None:
        self.tls.cert.write_bytes(issued.cert_pem)
        self.tls.key.write_bytes(issued.key_pem)

    def renewed(self, **changes):
        return reissue(self.authority, NODE, HOSTS, **changes)


@pytest.fixture
def ground(tmp_path):
    return Ground(tmp_path)


# ---- what may change


CHANGES = {
    "nothing": (lambda _: None, [], []),
    "log level": (lambda g: g.edit('"info"', '"debug"'), ["log.level"], []),
    "a limit that was a default": (
        lambda g: g.edit("[limits]", "[limits]\nconcurrent_requests = 7"),
        ["limits.concurrent_requests"],
        [],
    ),
    "the default written out": (
        lambda g: g.edit("[limits]", "[limits]\nconcurrent_requests = 1024"),
        [],
        [],
    ),
    "a limit taken out": (
        lambda g: g.edit("body_bytes = 9000", ""),
        ["limits.body_bytes"],
        [],
    ),
    "another tenant": (
        lambda g: g.edit(
            "[[tenants]]",
            '[[tenants]]\niss = "two"\nalg = "EdDSA"\npublic_key_file = "tenant.pem"\n[[tenants]]',
        ),
        ["tenants"],
        [],
    ),
    "the content of a tenant's key": (lambda g: g.write_tenant(), ["tenants"], []),
    "a renewed pair": (lambda g: g.put(g.renewed()), ["tls.cert", "tls.key"], []),
    "a longer certificate of the same key": (
        lambda g: g.put(g.renewed(key=load_pem_private_key(g.tls.key.read_bytes(), None))),
        ["tls.cert"],
        [],
    ),
    "the same pair elsewhere": (
        lambda g: (
            (g.root / "new.pem").write_bytes(g.tls.cert.read_bytes()),
            g.edit('"cert.pem"', '"new.pem"'),
        ),
        ["tls.cert"],
        [],
    ),
    "another authority": (
        lambda g: g.tls.ca.write_bytes(g.authority.cert_pem + create_authority("other").cert_pem),
        [],
        ["tls.ca"],
    ),
    "a listener": (lambda g: g.edit("8443", "8444"), [], ["listen.client"]),
    "a peer's address": (
        lambda g: g.edit("[[tenants]]", '[peers]\n2 = "a:1"\n[[tenants]]'),
        [],
        ["peers.2"],
    ),
    "where the log goes": (
        lambda g: g.edit("[log]", '[log]\nfile = "node.log"'),
        [],
        ["log.file"],
    ),
    "some of each": (
        lambda g: (
            g.edit('data_dir = "data"', 'data_dir = "other"\ndrain_s = 3'),
            g.edit('"seat-1"', '"seat-2"'),
            g.edit('"info"', '"error"'),
            g.edit("9000", "9001"),
        ),
        ["limits.body_bytes", "log.level"],
        ["data_dir", "drain_s", "hsm.token_label"],
    ),
}


@pytest.mark.parametrize(("change", "changed", "needs_restart"), CHANGES.values(), ids=CHANGES)
async def test_what_differs_is_named_and_is_taken_or_waits(ground, change, changed, needs_restart):
    before = ground.reloader.running
    change(ground)
    done = await ground.reloader.reload("ada")
    assert (list(done.changed), list(done.needs_restart)) == (changed, needs_restart)
    assert ground.used == [done]
    text = f"by ada: {', '.join(changed) or 'nothing'} changed"
    if needs_restart:
        text += f"; {', '.join(needs_restart)} needs a restart"
    assert ground.last == ("reload", "info", text)
    assert ground.logged[-1]["by"] == "ada"
    after = ground.reloader.running
    old, new = before.loaded.config, after.loaded.config
    assert (new.listen, new.data_dir, new.peer_addresses, new.log_file, new.drain_s) == (
        old.listen,
        old.data_dir,
        old.peer_addresses,
        old.log_file,
        old.drain_s,
    )
    assert after.pair.cert_pem == new.tls_cert.read_bytes()
    assert after.pair.key_pem == new.tls_key.read_bytes()
    assert after.pair.authorities == before.pair.authorities
    # Once more: what was taken is no difference any more, what waits for a restart still is.
    again = await ground.reloader.reload("ada")
    assert (list(again.changed), list(again.needs_restart)) == ([], needs_restart)


async def test_the_settings_shown_are_those_in_use(ground):
    ground.edit("8443", "8444")
    ground.edit("9000", "9001")
    await ground.reloader.reload("ada")
    shown = {row.key: (row.value, row.source) for row in ground.reloader.running.loaded.settings}
    assert shown["listen.client"] == ("127.0.0.1:8443", "file")
    assert shown["limits.body_bytes"] == (9001, "file")
    assert shown["limits.account_per_minute"] == (600, "default")


async def test_the_environment_still_goes_over_the_file(ground, monkeypatch):
    monkeypatch.setenv("QUORUMVAULT_LOG_LEVEL", "error")
    first = await ground.reloader.reload("ada")
    assert first.changed == ("log.level",)
    ground.edit('"info"', '"debug"')
    assert (await ground.reloader.reload("ada")).changed == ()
    assert ground.reloader.running.loaded.config.log_level == "error"


# ---- what is refused


def other_authority(g):
    g.put(reissue(create_authority("demo"), NODE, HOSTS))


def encrypted(g):
    key = load_pem_private_key(g.tls.key.read_bytes(), None)
    g.tls.key.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    )


def client_only(g):
    g.put(issue(g.authority, uri=NODE, hosts=HOSTS, days=1, server=False, client=True))


def weak_tenant(g):
    weak = rsa.generate_private_key(65537, 1024).public_key()  # noqa: S505 - refused
    pem = weak.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (g.root / "tenant.pem").write_bytes(pem)
    g.edit('"EdDSA"', '"RS256"')


REFUSED = {
    "not TOML": (lambda g: g.path.write_text("node_id ="), "is not TOML"),
    "no file": (lambda g: g.path.unlink(), "cannot be read"),
    "an unknown key": (lambda g: g.edit("body_bytes", "bodybytes"), "unknown field `bodybytes`"),
    "a limit out of range": (lambda g: g.edit("9000", "1"), "limits.body_bytes"),
    "another node": (lambda g: g.edit("node_id = 1", "node_id = 2"), "this is node 1"),
    "a tenant's weak key": (weak_tenant, "RS256 needs 2048"),
    "no certificate": (lambda g: g.tls.cert.unlink(), "tls.cert_file .* cannot be read"),
    "a folder for a key": (
        lambda g: g.edit('"key.pem"', '"."'),
        r"tls.key_file .* cannot be read \(Is a directory\)",
    ),
    "garbage for a certificate": (lambda g: g.tls.cert.write_text("x"), "not a certificate in PEM"),
    "garbage for an authority": (lambda g: g.tls.ca.write_text("x"), "tls.ca_file .* in PEM"),
    "garbage for a key": (lambda g: g.tls.key.write_text("x"), "not a private key in PEM"),
    "an endless certificate": (lambda g: g.tls.cert.write_bytes(bytes(2 << 20)), "over 1 MiB"),
    "an encrypted key": (encrypted, "is encrypted"),
    "the key of another": (
        lambda g: g.tls.key.write_bytes(g.renewed().key_pem),
        "is not the key of tls.cert_file",
    ),
    "a peer's pair": (
        lambda g: g.put(reissue(g.authority, node_uri(CLUSTER_ID, 2), HOSTS)),
        "is of node 2, and this is node 1",
    ),
    "an operator's pair": (
        lambda g: g.put(reissue(g.authority, operator_uri(CLUSTER_ID, "ada"), HOSTS)),
        "is of an operator",
    ),
    "another cluster's pair": (
        lambda g: g.put(reissue(g.authority, node_uri(type(CLUSTER_ID)(int=7), 1), HOSTS)),
        "belongs to cluster",
    ),
    "an expired pair": (
        lambda g: g.put(g.renewed(begins_in=-2 * DAY, ends_in=-DAY)),
        "expired .*; issue it anew",
    ),
    "a pair of tomorrow": (
        lambda g: g.put(g.renewed(begins_in=DAY)),
        "not valid before .*; check the clock",
    ),
    "another authority's pair": (other_authority, "would be refused by the other nodes"),
    "a pair that cannot serve": (client_only, "would be refused by the other nodes .*purpose"),
    "another kind of key": (
        lambda g: g.put(g.renewed(key=ed25519.Ed25519PrivateKey.generate())),
        "another kind of key .* restart",
    ),
    "a pair without the host": (
        lambda g: g.put(reissue(g.authority, NODE, ["elsewhere.test"])),
        "lacks 127.0.0.1, by which this node is reached",
    ),
}


@pytest.mark.parametrize(("damage", "words"), REFUSED.values(), ids=REFUSED)
async def test_a_bad_file_changes_nothing_and_says_so_until_it_is_mended(ground, damage, words):
    kept = {path: path.read_bytes() for path in (ground.path, *ground.root.glob("*.pem"))}
    before = ground.reloader.running
    damage(ground)
    if ground.path.exists() and "debug" not in ground.path.read_text():
        good = ground.path.read_text().replace('level = "info"', 'level = "debug"')
        ground.path.write_text(good)  # what is good beside it waits too
    with pytest.raises(ConfigError, match=words) as refused:
        await ground.reloader.reload("ada")
    assert "\n" not in str(refused.value)
    assert ground.used == []
    assert ground.reloader.running is before
    assert ground.reloader.failed == str(refused.value)
    assert ground.reloader.alarms == [f"configuration: {refused.value}"]
    kind, level, text = ground.last
    assert (kind, level) == ("reload-refused", "error")
    assert text == cut(f"asked by ada: {refused.value}", MAX_TEXT)
    assert [each["reason"] for each in ground.logged] == [str(refused.value)], "uncut"
    for path, data in kept.items():
        path.write_bytes(data)
    await ground.reloader.reload("ada")
    assert (ground.reloader.failed, ground.reloader.alarms) == ("", [])


async def test_files_that_cannot_be_used_after_all_are_refused_like_bad_ones(ground):
    before = ground.reloader.running
    ground.edit("9000", "9001")
    ground.wrong = OSError("no descriptors are left")
    with pytest.raises(ConfigError, match="no descriptors"):
        await ground.reloader.reload("ada")
    assert ground.reloader.running is before
    ground.wrong = None
    assert (await ground.reloader.reload("ada")).changed == ("limits.body_bytes",)


async def test_a_disk_that_does_not_answer_is_given_up(ground, monkeypatch):
    monkeypatch.setattr(reload, "READ_S", 0.05)
    ground.tls.cert.unlink()
    os.mkfifo(ground.tls.cert)
    with pytest.raises(ConfigError, match="could not be read within"):
        await ground.reloader.reload("ada")
    with ground.tls.cert.open("wb"):  # lets the reader's thread end
        pass


def test_an_expired_pair_in_use_does_not_keep_the_rest_from_being_reloaded(ground):
    """It is refused by the peers already, and has alerts of its own."""
    ground.put(ground.renewed(begins_in=-2 * DAY, ends_in=-DAY))
    ground.reloader.running = reload.read(ground.path)
    ground.edit("9000", "9001")
    assert ground.reloader._judge().changed == ("limits.body_bytes",)


def test_a_key_is_in_no_repr(ground):
    key = ground.tls.key.read_bytes()
    running = ground.reloader.running
    assert key == running.pair.key_pem
    assert repr(key) not in repr(running) + repr(plan(running, running))
    assert "PRIVATE" not in repr(running)


@pytest.mark.parametrize("field", ["ca", "cert"])
@pytest.mark.parametrize("words", ["cannot be read", "in PEM"])
def test_a_file_that_is_none_is_named_with_its_key(ground, field, words):
    path = getattr(ground.tls, field)
    path.unlink() if words == "cannot be read" else path.write_text("x")
    with pytest.raises(ConfigError, match=f"tls.{field}_file .*{words}"):
        pairs.read(TlsFiles(ground.tls.ca, ground.tls.cert, ground.tls.key))


# ---- what the parts make of it


def test_fewer_slots_count_those_under_way(ground):
    slots = Slots(3)
    with slots, slots:
        slots.resize(1)
        with pytest.raises(Problem), slots:
            pass
    with slots:
        pass


def test_an_accounts_rate_changes_and_what_it_sent_counts_on():
    rate = AccountRate(2, lambda: 0.0)
    account = b"a"
    for _ in range(2):
        rate.admit(account)
    with pytest.raises(Problem):
        rate.admit(account)
    rate.retune(60)
    rate.retune(0)
    rate.admit(account)
    rate.retune(1)
    with pytest.raises(Problem):
        rate.admit(account)


def test_a_token_of_a_key_that_is_trusted_no_more_is_refused_though_it_was_remembered(ground):
    old = ground.write_tenant()
    tenants = reload.read(ground.path).loaded.config.tenants
    tokens = Tokens(tenants, "demo", lambda _iss, _sub: b"", lambda: 1000.0)
    claims = {"iss": "one", "sub": "s", "aud": "demo", "iat": 1000, "exp": 2000}
    token = jwt.encode(
        claims | {"device": "primary", "scope": "vault:manage"}, old, algorithm="EdDSA"
    )
    allowed = frozenset({Scope.MANAGE})
    assert tokens.caller(f"Bearer {token}", allowed).expires == 2000
    ground.write_tenant()
    tokens.adopt(reload.read(ground.path).loaded.config.tenants)
    with pytest.raises(Problem):
        tokens.caller(f"Bearer {token}", allowed)
