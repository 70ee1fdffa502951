"""Fixtures of the tests of commands."""

from __future__ import annotations

import sys

import pytest

from cinefuse import cli
from cinefuse.tests.support.commands import Ended, Run


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `cinefuse` with these words in this process, as the installed command does."""

    def run(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["cinefuse", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed = capsys.readouterr()
        code = end.value.code or 0
        assert isinstance(code, int)
        return Ended(code, printed.out, printed.err)

    return run
