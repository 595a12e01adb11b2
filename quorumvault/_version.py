"""The version, as pyproject.toml has it (a test compares).

Written down twice, because to ask the installed package for it takes longer than a small command.
"""

from typing import Final

VERSION: Final = "0.1.0"
