"""The checks of the pages can fail: what they must find, they find."""

from __future__ import annotations

from pathlib import Path

import command_lines
import pages
import pytest

TEXT = """# One `code` heading: yes!
## Same
## Same
See [there](other.md#part), `[not](a-link)`, ![picture](x.svg "title").

```sh
quorumvault cluster status \\
  --connection FILE   # comment
[no](link)
```
"""


def test_a_page_is_taken_apart():
    page = pages.parse(Path("x.md"), TEXT)
    assert page.anchors == {"one-code-heading-yes", "same", "same-1"}
    assert page.links == ((4, "other.md#part"), (4, "x.svg"))
    assert [(shown.line, shown.language) for shown in page.shown] == [
        (1, "inline"),
        (4, "inline"),
        (8, "sh"),
        (9, "sh"),
    ]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("quorumvault cluster status --connection FILE", ""),
        ("quorumvault cluster status --conection FILE", "no option --conection"),
        ("quorumvault cluster stats", "no command 'stats'"),
        ("quorumvault cluster", "a command is missing"),
        ("quorumvault member replace 4", "--cluster missing"),
        ("quorumvault member replace --cluster DIR", "1 arguments missing"),
        ("quorumvault member replace 4 5 --cluster DIR", "takes 1 arguments, not 2"),
        ("quorumvault member replace 4 --cluster", "needs a value"),
        ("quorumvault hsm provision --cluster-file cluster.json …", ""),
        ("quorumvault node run -c node.toml > log 2>&1 && rm log", ""),
        ("quorumvault demo --exec 'quorumvault record recover --oops'", "no option --oops"),
        ("docker exec quorumvault-node-1 quorumvault cluster stats", "no command 'stats'"),
        ("echo quorumvaults | .venv/bin/quorumvault demo --wam lan", "no option --wam"),
        ("quorumvault record register|recovr --account a --connection FILE", "'recovr'"),
        ("quorumvault --version", ""),
        ("quorumvault chaos run --help", ""),
    ],
)
def test_a_command_line_is_held_against_the_real_commands(line, says):
    calls = command_lines.words_of(line)
    assert calls
    told = " ".join(why for call in calls for why in command_lines.complaints(call, full=True))
    assert says in told
    assert bool(told) == bool(says)
