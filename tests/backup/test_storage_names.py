"""URLs and options of storages: what they mean, what is refused, and that no secret is shown."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer

from quorumvault.backup.errors import StorageError
from quorumvault.backup.storage import Storage, parse_options
from quorumvault.backup.storage_names import place
from quorumvault.cli.backup_profile import check_url

SECRETS = {
    "secret": "her-s3-secret",
    "token": "her-session-token",
    "client_kwargs": {"aws_secret_access_key": "her-other-secret", "region_name": "eu-central-1"},
    "auth": ("anna", "her-password"),
}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/phone", "s3://bucket/phone"),
        ("webdavs://anna:her-p@ssword@cloud.example/dav", "webdavs://…@cloud.example/dav"),
        ("webdavs://her-token@cloud.example/dav", "webdavs://…@cloud.example/dav"),
        ("az://container/a?sig=her-password&x=1", "az://container/a?…"),
        ("SFTP://anna:her-password@host/a", "sftp://…@host/a"),
    ],
)
def test_the_shown_url_has_no_credentials(url: str, shown: str) -> None:
    assert place(url).shown == shown
    assert "her-" not in repr(place(url))


def test_no_option_that_may_be_a_secret_is_shown_or_passed_on_in_words_of_the_provider() -> None:
    where = place("s3://bucket/phone?x=her-query-secret", SECRETS)
    assert "her-" not in repr(where)
    said = (
        "403: her-s3-secret her-session-token her-other-secret her-password her-query-secret"
        " at https://anna:her-password-2@host/ in eu-central-1\n\x1b[31mred\x00"
    )
    scrubbed = where.scrub(said)
    assert "her-" not in scrubbed
    assert "eu-central-1" in scrubbed
    assert scrubbed.isprintable()
    assert len(where.scrub("x" * 10_000)) == 200


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("", "no storage was given"),
        ("  ", "no storage was given"),
        ("a\0b", "no storage was given"),
        ("https://cloud.example/dav", "write webdavs://"),
        ("http://cloud.example/dav", "write webdav://"),
        ("s3://", "names no bucket"),
        ("s3:///", "names no bucket"),
        ("s3://AKIA:her-password@bucket/phone", r"s3://…@bucket/phone: S3 takes no password"),
        ("file://host/share", "write file:///full/path"),
        ("webdavs:///dav", "names no host"),
        ("webdavs://host:port/dav", "is not a URL"),
        ("webdavs://host/dav?x=1", r"can't have #, \? or %"),
        ("webdavs://host/100%25", r"can't have #, \? or %"),
        ("simplecache::s3://bucket/phone", "can't be a chain"),
        ("nosuch://bucket/phone", "no storage is called nosuch://"),
    ],
)
def test_a_url_that_can_be_no_storage_says_what_to_write_instead(url: str, match: str) -> None:
    with pytest.raises(StorageError, match=match):
        Storage(url)


SECRET = ("zebra", "123456", "password@")


@pytest.mark.parametrize(
    "url",
    [
        "webdavs://anna:zebra/password@cloud.example/dav",
        "webdavs://anna:zebra?password@cloud.example/dav",
        "webdavs://anna:zebra#password@cloud.example/dav",
        "webdavs://anna:zebra\N{CARE OF}password@cloud.example/dav",
        "webdavs://anna:123456/password@cloud.example/dav",
        "sftp://anna:zebra/password@host/a",
        "s3://AKIA:zebra/password@bucket/phone",
        "nosuch://anna:zebra/password@host/a",
    ],
)
def test_a_password_that_cuts_its_url_in_two_is_shown_in_no_part(url: str) -> None:
    with pytest.raises(StorageError) as caught:
        Storage(url)
    with pytest.raises(typer.BadParameter) as refused:
        check_url(url)
    for said in (str(caught.value), refused.value.message):
        assert not any(part in said for part in SECRET), said


@pytest.mark.parametrize(
    "url",
    [
        "webdavs://cloud.example:8443/files/anna@mail.example",
        "webdavs://[::1]:8443/files/anna@mail.example",
        "s3://arn:aws:s3:eu-central-1:123456789012:accesspoint/mine/phone",
    ],
)
def test_a_port_or_an_access_point_is_no_password(url: str) -> None:
    check_url(url)
    assert place(url).shown == url


def test_a_password_is_not_sent_unencrypted_to_another_machine() -> None:
    url = "webdav://anna:her-password@nas.example/backups"
    with pytest.raises(StorageError, match="write webdavs://") as caught:
        Storage(url)
    assert "her-password" not in str(caught.value)
    with pytest.raises(StorageError, match="unencrypted"):
        Storage("webdav://nas.example/b", {"username": "anna", "password": "her-password"})
    assert place(url, {"plain_http": True}).address == "http://nas.example"
    assert place("webdav://127.0.0.1:80/b", {"auth": ["anna", "p"]}).options == {
        "auth": ("anna", "p")
    }


def test_credentials_of_webdav_come_from_the_url_or_from_options() -> None:
    url = place("webdavs://anna%40home:a%2Fb@cloud.example:8443/dav/My%20Backups/")
    assert url.options == {"auth": ("anna@home", "a/b")}
    assert (url.address, url.path) == ("https://cloud.example:8443", "dav/My Backups")
    given = place("davs://cloud.example/dav", {"username": "anna", "password": "p"})
    assert given.options == {"auth": ("anna", "p")}


def test_a_folder_takes_no_options() -> None:
    with pytest.raises(StorageError, match="takes no options, but got key, secret") as caught:
        Storage("/tmp/backups", {"secret": "her-secret", "key": "AKIA"})
    assert "her-secret" not in str(caught.value)


@pytest.mark.parametrize("options", [{"key": "a", "username": "b"}, {"max_concurrency": 0}])
def test_options_that_a_package_refuses_are_told(options: dict[str, object]) -> None:
    with pytest.raises(StorageError, match="can't be used with these options"):
        Storage("s3://bucket/phone", options)


@pytest.mark.parametrize(
    ("missing", "url", "hint"),
    [
        ("s3fs", "s3://bucket/phone", "pip install 'quorumvault[s3]'"),
        ("webdav4", "webdavs://cloud.example/dav", "pip install 'quorumvault[webdav]'"),
        ("gdrive_fsspec", "gdrive://backups", "pip install 'gdrive-fsspec'"),
        ("paramiko", "sftp://host/backups", "pip install 'paramiko'"),
    ],
)
def test_a_missing_package_is_named_as_pip_wants_it(missing: str, url: str, hint: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from quorumvault.backup.errors import StorageError\n"
        "from quorumvault.backup.storage import Storage\n"
        "try: Storage(sys.argv[1])\n"
        "except StorageError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, url], capture_output=True, text=True, check=True
    )
    assert hint in done.stdout


def test_options_of_the_command_line_are_texts_or_json() -> None:
    pairs = ["endpoint_url=http://127.0.0.1:9000?a=b", "key=0123", "use_ssl:=false", "timeout:=2.5"]
    assert parse_options(pairs) == {
        "endpoint_url": "http://127.0.0.1:9000?a=b",
        "key": "0123",
        "use_ssl": False,
        "timeout": 2.5,
    }
    assert parse_options(['client_kwargs:={"region_name": "eu"}', "empty="]) == {
        "client_kwargs": {"region_name": "eu"},
        "empty": "",
    }


@pytest.mark.parametrize("pair", ["key", "=her-secret", "a b=her-secret", "key:=her-secret"])
def test_an_option_that_is_none_is_refused_without_its_value(pair: str) -> None:
    with pytest.raises(StorageError) as caught:
        parse_options([pair])
    assert "her-secret" not in str(caught.value)
