"""``python -m quorumvault.cli`` is ``quorumvault``."""

from quorumvault.cli import main

main()
