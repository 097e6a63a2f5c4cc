"""What checks find, and how they are run. What a role checks stands in a module of its name."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from app.config import ConfigError
from app.redaction import masked_in


class Red(Exception):
    """A check failed: what is wrong, and what to do about it."""

    def __init__(self, detail: str, advice: str):
        super().__init__(detail)
        self.detail = detail
        self.advice = advice


class Unusable(Red):
    """A check failed, and nothing that relies on what it is about can be examined."""


class Amber(Red):
    """A warning: the thing works, but probably not as the operator wants it."""


@dataclass(frozen=True)
class Finding:
    """The result of a check.

    If it is `ok` and has advice, it is a warning. If it is not and has none, the check was left out, since
    what it relies on cannot be used.
    """

    check: str
    ok: bool
    detail: str
    advice: str = ""


Check = Callable[[], str]


class Checks:
    """The checks of a role. Each returns what it found, or raises Red, Unusable or Amber."""

    # of these the answer is waited for at the same time
    remote: tuple[str, ...] = ()
    # What a check relies on. If that cannot be used, the check would only say so again, and is left out.
    needs: Mapping[str, tuple[str, ...]] = {}

    def __init__(self) -> None:
        # what cannot be used -> because of what
        self._causes: dict[str, str] = {}

    def checks(self) -> dict[str, Check]:
        """The checks by name."""
        raise NotImplementedError

    def examine_all(self) -> list[Finding]:
        """Run all checks and return the findings in their order. With everything down it takes seconds.

        The first that is not `ok` is the one to begin with.
        """
        checks = self.checks()
        found: dict[str, Finding] = {}
        while left := [name for name in checks if name not in found]:
            ready = [name for name in left if all(need in found for need in self._needs(name))]
            found |= self._examine({name: checks[name] for name in ready})
        return [found[name] for name in checks]

    def _examine(self, checks: dict[str, Check]) -> dict[str, Finding]:
        """Run checks of which none relies on another of them."""
        with ThreadPoolExecutor(max(1, len(self.remote))) as pool:
            begun = {
                name: pool.submit(self.examine, name, checks[name]) for name in checks.keys() & self.remote
            }
            # these may start processes, which end with the thread that started them
            found = {name: self.examine(name, checks[name]) for name in checks if name not in begun}
            return found | {name: each.result() for name, each in begun.items()}

    def _needs(self, name: str) -> tuple[str, ...]:
        return self.needs.get(name, ())

    def _around(self) -> AbstractContextManager:
        """What a check runs in."""
        return nullcontext()

    def examine(self, name: str, check: Check) -> Finding:
        """Run a check and return its result as a finding."""
        if unusable := next((need for need in self._needs(name) if need in self._causes), None):
            self._causes[name] = self._causes[unusable]
            return left_out(name, self._causes[name])
        try:
            with self._around():
                return Finding(name, True, masked_in(check()))
        except Red as red:
            if isinstance(red, Unusable):
                self._causes[name] = name
            return Finding(name, isinstance(red, Amber), masked_in(red.detail), red.advice)
        except ConfigError as error:
            self._causes[name] = name
            return Finding(name, False, str(error), "Set it in .env or in the environment.")


def left_out(name: str, need: str) -> Finding:
    return Finding(name, False, f"not examined: first repair the {need}")
