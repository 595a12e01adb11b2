"""Quorumvault for those who use it: client SDK, backup client, command line."""
