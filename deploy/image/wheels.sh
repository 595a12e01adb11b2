#!/bin/sh
# Build on the host every wheel that the image installs, so that its build needs no package index,
# compiler or certificates: the locked requirements (checked by hash) and the project itself.
# What did not change is not built again: each half has the hash of its inputs beside it.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python3}
out=$root/dist/image
cd "$root"
mkdir -p "$out/requirements" "$out/project"

say() { printf '%s\n' "$*" >&2; }
same() { [ "$(cat "$out/$1.sha256" 2>/dev/null || true)" = "$2" ]; }
no_wheels() {
    say "the wheels were not built: read the lines above; 'make clean' starts afresh"
    exit 1
}

"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
    say "the image's Python is 3.11, and wheels must be built with the same: name it with PYTHON=/path/to/python3.11"
    exit 1
}

hash=$(sha256sum requirements.lock | cut -d' ' -f1)
if ! same requirements "$hash"; then
    say "  wheels of the locked requirements"
    rm -rf "$out/requirements" && mkdir "$out/requirements"
    "$python" -m pip wheel --quiet --disable-pip-version-check --require-hashes --no-deps \
        -r requirements.lock -w "$out/requirements" || no_wheels
    printf '%s\n' "$hash" >"$out/requirements.sha256"
fi

hash=$(find pyproject.toml README.md LICENSE engines cluster hsm node quorumvault chaos \
    \( -name __pycache__ -o -name '*.so' \) -prune -o -type f -print0 |
    LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1)
if ! same project "$hash"; then
    say "  wheel of the vault (some seconds; two minutes when Rust was never compiled here)"
    rm -rf "$out/project" && mkdir "$out/project"
    "$python" -m pip wheel --quiet --disable-pip-version-check --no-deps . -w "$out/project" || no_wheels
    printf '%s\n' "$hash" >"$out/project.sha256"
fi
