"""A token is provisioned wholly, once, with its own seat's package, or not touched at all."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from pkcs11 import KeyType
from pkcs11.constants import Attribute

import hsm
from hsm import errors, stamps
from hsm.names import held_names
from hsm.token import OpenToken

ROOT = Path(__file__).parent.parent.parent
OTHER_CLUSTER = UUID("ffffffff-4455-6677-8899-aabbccddeeff")


def holdings(ground, settings):
    return ground.on_token(
        settings, lambda token: (len(token.vault_keys()), len(token.data_objects(stamps.LABEL)))
    )


@pytest.mark.parametrize("seat", [1, 2, 3, 4, 5])
def test_every_seat_provisions_and_starts(ground, seat):
    settings = ground.ready(seat)
    assert holdings(ground, settings) == (9, 1)
    ground.hsm(settings, seat).start()


def refused_untouched(ground, settings, kind, says, **changed):
    with pytest.raises(kind, match=says) as caught:
        ground.provision(settings, **changed)
    assert "\n" not in str(caught.value)
    assert holdings(ground, settings) == (0, 0)


def test_the_package_of_another_seat_is_refused(ground):
    made = ground.ceremony
    settings = ground.blank()
    wrong = {"package": made.packages[3], "words": made.shares[3][:3]}
    refused_untouched(ground, settings, errors.PackageBroken, "of seat 3, not 2", **wrong)
    words = {"words": made.shares[3][:3]}
    refused_untouched(ground, settings, errors.WordsWrong, "package of seat 2", **words)
    forged = bytearray(made.packages[3])
    forged[21] = 2  # the header says seat 2 now
    relabelled = {"package": bytes(forged), "words": made.shares[3][:3]}
    refused_untouched(ground, settings, errors.WordsWrong, "package of seat 2", **relabelled)


def test_the_package_of_another_cluster_is_refused(ground):
    made = hsm.draw(OTHER_CLUSTER)
    settings = ground.blank()
    refused_untouched(ground, settings, errors.PackageBroken, str(OTHER_CLUSTER), ceremony=made)
    refused_untouched(
        ground,
        settings,
        errors.KeyMismatch,
        "key oprf/123 in the package of seat 2",
        ceremony=made,
        cluster_id=OTHER_CLUSTER,
        check_values=ground.ceremony.check_values,
    )


@pytest.mark.parametrize("name", held_names(2, 5, 3))
def test_a_check_value_that_differs_names_the_key(ground, name):
    values = {**ground.ceremony.check_values, name: b"8 bytes!"}
    settings = ground.blank()
    refused_untouched(ground, settings, errors.KeyMismatch, f"key {name} ", check_values=values)


def test_another_scheme_is_refused(ground):
    made = hsm.draw(ground.ceremony.cluster_id, 3, 2)
    wrong = {"seats": 5, "threshold": 3, "check_values": ground.ceremony.check_values}
    refused_untouched(
        ground, ground.blank(), errors.PackageBroken, "2 of 3 seats", ceremony=made, **wrong
    )


def test_a_stamp_too_long_is_refused_before_the_token_is_touched(ground):
    long = bytes(stamps.MAX_STAMP_BYTES + 1)
    refused_untouched(ground, ground.blank(), ValueError, "at most 4096", enrolment=long)


def test_a_token_is_made_only_when_package_and_words_are_good(ground):
    """A token made for a package that does not fit stood in the way of the next try."""
    made = ground.ceremony
    label = "made when all is good"
    settings = replace(ground.blank(), token_label=label)
    module, pin = settings.module, settings.pin
    make = partial(hsm.init_token, module, token_label=label, so_pin=hsm.Pin("12345"), pin=pin)
    with pytest.raises(errors.PackageBroken):
        ground.provision(settings, package=made.packages[3], first=make)
    with pytest.raises(errors.WordsWrong):
        ground.provision(settings, words=made.shares[3][:3], first=make)
    ground.provision(settings, first=make)
    assert holdings(ground, settings) == (9, 1)


def test_a_second_provisioning_is_refused_and_changes_nothing(ground):
    settings = ground.ready()
    made = ground.hsm(settings)
    made.start()
    before = made.state_key
    made.close()
    for _ in range(2):
        with pytest.raises(errors.AlreadyProvisioned, match="hsm destroy"):
            ground.provision(settings)
    again = ground.hsm(settings)
    again.start()
    assert again.state_key == before


def test_a_seat_is_reused_after_its_keys_were_destroyed(ground):
    settings = ground.ready(2)
    first = ground.hsm(settings, 2)
    first.start()
    first.close()
    assert hsm.destroy(settings) == 10
    assert hsm.destroy(settings) == 0
    ground.provision(settings, seat=4)
    second = ground.hsm(settings, 4)
    second.start()
    assert second.state_key != first.state_key
    assert second.record_key == first.record_key


@pytest.mark.parametrize("step", range(1, 11))
def test_a_failure_at_any_step_leaves_nothing_behind(ground, monkeypatch, step):
    """Steps 1…8 import, 9 generates the node key, 10 writes the stamp."""
    settings = ground.blank()
    done = []

    def failing(real):
        def run(self, *arguments, **named):
            if named.get("on_token", True):
                done.append(arguments[0])
            if len(done) == step:
                raise errors.HsmAway("pulled out")
            return real(self, *arguments, **named)

        return run

    with monkeypatch.context() as patched:
        for name in ("import_key", "generate_key", "create_data"):
            patched.setattr(OpenToken, name, failing(getattr(OpenToken, name)))
        with pytest.raises(errors.HsmAway, match="pulled out"):
            ground.provision(settings)
    assert len(done) == step
    assert holdings(ground, settings) == (0, 0)
    ground.provision(settings)


def test_a_provisioning_killed_half_way_is_refused_and_can_be_cleared(ground):
    settings = ground.blank()
    script = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        from hsm.module import get_module
        from hsm.settings import HsmSettings, Pin
        from hsm.token import open_token
        settings = HsmSettings(Path(sys.argv[1]), sys.argv[2], Pin(sys.argv[3]))
        module = get_module(settings.module)
        def work():
            token = open_token(module, settings)
            for name in ("oprf/123", "oprf/124"):
                token.import_key(name, os.urandom(64), on_token=True)
            os.kill(os.getpid(), 9)
        module.call(work)
        """
    )
    arguments = [str(settings.module), settings.token_label, settings.pin.reveal()]
    killed = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        cwd=ROOT,
    )
    assert killed.returncode == -9
    with pytest.raises(errors.AlreadyProvisioned, match="unfinished provisioning"):
        ground.provision(settings)
    assert hsm.destroy(settings) == 2
    ground.provision(settings)
    ground.hsm(settings).start()


def test_other_keys_on_the_token_are_left_alone(ground):
    settings = ground.blank()

    def foreign(token):
        return token.session.generate_key(KeyType.AES, 256, label="somebody else's", store=True)

    ground.on_token(settings, foreign)
    ground.provision(settings)
    ground.hsm(settings).start()
    assert hsm.destroy(settings) == 10
    left = ground.on_token(
        settings, lambda token: len(list(token.session.get_objects({Attribute.TOKEN: True})))
    )
    assert left == 1


def test_a_wrong_pin_is_refused_before_anything_is_imported(ground):
    settings = ground.blank()
    with pytest.raises(errors.PinWrong):
        ground.provision(replace(settings, pin=hsm.Pin("not this one")))
    assert holdings(ground, settings) == (0, 0)
