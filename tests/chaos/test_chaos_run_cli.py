"""`quorumvault chaos run`: what is refused before anything starts, and leaves nothing behind."""

import tempfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from quorumvault.cli import app, chaos_run
from quorumvault.cli.exits import Exit, Failure

TWO_DEAD = ("--scenario", "two-dead")


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ((), Exit.USAGE),
        ((*TWO_DEAD, "--random"), Exit.USAGE),
        (("--scenario", "meteor"), Exit.NOT_FOUND),
        ((*TWO_DEAD, "--duration", "20"), Exit.USAGE),
        ((*TWO_DEAD, "--report", "no-such-folder/page.txt"), Exit.USAGE),
        ((*TWO_DEAD, "--report", "page.json"), Exit.USAGE),
        ((*TWO_DEAD, "--history", "tests"), Exit.USAGE),
        ((*TWO_DEAD, "--root", "tests"), Exit.CONFLICT),
    ],
)
def test_a_run_that_cannot_be_is_refused_and_leaves_no_folder(args, code, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    result = CliRunner().invoke(app, ["chaos", "run", *args])
    assert isinstance(result.exception, Failure), result.output
    assert result.exception.exit_code == code
    assert not list(tmp_path.iterdir())


def test_a_disk_that_takes_no_report_does_not_take_the_verdict(tmp_path):
    lost: list[str] = []
    for path in (Path("/dev/full"), tmp_path / "page.txt"):
        chaos_run._keep(path, lambda path: path.write_text("x" * 100_000), lost)
    assert lost == ["/dev/full could not be written (No space left on device)"]
    assert (tmp_path / "page.txt").stat().st_size == 100_000
