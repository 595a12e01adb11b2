"""End-to-end encrypted backups: the reference client for app developers (docs/format.md)."""
