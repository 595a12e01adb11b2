"""An example of every command, shown at the end of its help and in docs/cli.md.

In one place, so that one test can hold each against the real commands, and so that whoever writes
a new command sees how the others are told. With the environment variable QUORUMVAULT_CONNECTION
set, `--connection` may be left out.
"""

from __future__ import annotations

from typing import Final

EXAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "demo": (
        "quorumvault demo",
        "quorumvault demo --exec 'quorumvault cluster status'",
    ),
    "bench": ("quorumvault bench --connection connection.json --clients 64 --seconds 10",),
    "doctor": (
        "quorumvault doctor --config /etc/quorumvault/node.toml",
        "quorumvault doctor --online --connection connection.json",
    ),
    "probe": (
        "quorumvault probe --connection connection.json",
        "quorumvault probe --connection connection.json --forever --every 30",
    ),
    "events": (
        "quorumvault events --connection connection.json --level warning",
        "quorumvault events --connection connection.json --node 3 --follow",
    ),
    "completion": (
        "quorumvault completion bash > ~/.local/share/bash-completion/completions/quorumvault",
    ),
    "cluster create": (
        (
            "quorumvault cluster create vault --name prod --node frankfurt@10.1.0.1 "
            "--node amsterdam@10.2.0.1 --node paris@10.3.0.1 --node dublin@10.4.0.1 "
            "--node stockholm@10.5.0.1 --shares-dir words"
        ),
    ),
    "cluster status": (
        "quorumvault cluster status --connection connection.json",
        "quorumvault cluster status --connection connection.json --watch",
    ),
    "cluster members": ("quorumvault cluster members --connection connection.json",),
    "member replace": (
        "quorumvault member replace 4 --cluster vault --dry-run",
        "quorumvault member replace 4 --cluster vault --wait",
    ),
    "member sync": ("quorumvault member sync --cluster vault",),
    "node run": ("quorumvault node run --config /etc/quorumvault/node.toml",),
    "node drain": ("quorumvault node drain 3 --connection connection.json --wait 30",),
    "node undrain": ("quorumvault node undrain 3 --connection connection.json",),
    "node reload": ("quorumvault node reload 3 --connection connection.json",),
    "leader transfer": (
        "quorumvault leader transfer --connection connection.json --shard 7 --to 2",
        "quorumvault leader transfer --connection connection.json --shard all --to 2",
    ),
    "leader balance": ("quorumvault leader balance --connection connection.json",),
    "hsm provision": (
        (
            "quorumvault hsm provision --cluster-file cluster.json --node 1 --package seat-1.pkg "
            "--module /usr/lib/softhsm/libsofthsm2.so --token-label vault --pin-file pin"
        ),
    ),
    "hsm destroy": (
        (
            "quorumvault hsm destroy --module /usr/lib/softhsm/libsofthsm2.so --token-label vault "
            "--pin-file pin"
        ),
    ),
    "config validate": ("quorumvault config validate --config node.toml",),
    "config show": ("quorumvault config show --effective --config node.toml",),
    "certs issue": (
        "quorumvault certs issue vault --operator ada --out ada",
        "quorumvault certs issue vault --node 3 --out node-3",
    ),
    "certs renew": ("quorumvault certs renew vault --node 3",),
    "certs list": ("quorumvault certs list vault",),
    "certs show": ("quorumvault certs show ca.pem cert.pem",),
    "record register": ("quorumvault record register --connection connection.json --account bob",),
    "record recover": (
        "quorumvault record recover --connection connection.json --account bob",
        (
            "quorumvault record recover --endpoint https://10.1.0.1:8443 --ca ca.pem "
            "--token-file token --password-file -"
        ),
    ),
    "record status": ("quorumvault record status --connection connection.json --account bob",),
    "record delete": (
        "quorumvault record delete --connection connection.json --account bob --yes",
    ),
    "backup enable": (
        (
            "quorumvault backup enable --password --storage s3://my-bucket/phone "
            "--connection connection.json --account bob"
        ),
        "quorumvault backup enable --key --storage /mnt/stick/phone",
    ),
    "backup create": (
        "quorumvault backup create ~/Messages ~/Photos --exclude '*.tmp'",
        "quorumvault backup create",
    ),
    "backup list": ("quorumvault backup list", "quorumvault backup list --files"),
    "backup verify": ("quorumvault backup verify",),
    "backup restore": (
        (
            "quorumvault backup restore ~/Restored --password --storage s3://my-bucket/phone "
            "--connection connection.json --account bob"
        ),
        "quorumvault backup restore ~/Restored --only Photos/2026",
    ),
    "backup status": ("quorumvault backup status --guesses",),
    "backup change-password": ("quorumvault backup change-password",),
    "backup switch": ("quorumvault backup switch --key", "quorumvault backup switch --password"),
    "backup new-key": ("quorumvault backup new-key",),
    "backup disable": ("quorumvault backup disable --delete-copies",),
    "chaos run": ("quorumvault chaos run --duration 60 --seed 7",),
    "chaos list": ("quorumvault chaos list",),
    "chaos sim": ("quorumvault chaos sim --seeds 1-20",),
    "debug bundle": (
        "quorumvault debug bundle --connection connection.json --output bundle.tar.gz",
    ),
}
