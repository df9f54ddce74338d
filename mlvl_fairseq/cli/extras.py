"""Extras: packages that only some commands need. ``extras.json`` says what for; `setup.py` makes the package's metadata
of it, and ``mlvl-doctor`` shows what of it is there."""

import shutil
from dataclasses import dataclass, field
from importlib import metadata
from importlib.resources import files
from typing import Dict, List, Optional

from packaging.requirements import Requirement

from mlvl_fairseq.json_files import read_json


@dataclass
class Program:
    """What is no Python package: it is called by one of `commands`, and `install` is Debian's line."""

    name: str
    purpose: str
    commands: List[str]
    install: str

    def path(self) -> Optional[str]:
        """Where it is; None: it is not installed."""
        return next(filter(None, map(shutil.which, self.commands)), None)


@dataclass
class Extra:
    """An extra, as `extras.json` has it."""

    purpose: str
    packages: List[str]
    programs: List[Program] = field(default_factory=list)


@dataclass
class Status:
    """An extra or a program on this machine.

    Attributes:
        there: what is installed, with its version or place. missing: what is not, or is too old. install: the line that
            installs it.
    """

    name: str
    purpose: str
    there: List[str]
    missing: List[str]
    install: str


def known_extras() -> Dict[str, Extra]:
    """What is said of each extra."""
    return read_json(files("mlvl_fairseq") / "extras.json", Dict[str, Extra])


def find_program(name: str) -> Optional[str]:
    """The path of a program that some extra names; None: it is not installed."""
    return next(one.path() for extra in known_extras().values() for one in extra.programs if one.name == name)


def status_of_extras() -> List[Status]:
    """Of each extra of the package that is installed, and of programs that go with it.

    Raises:
        importlib.metadata.PackageNotFoundError: this package is imported, but not installed.
    """
    listed, known = [Requirement(line) for line in metadata.requires("mlvl_fairseq") or []], known_extras()
    found = []
    for name in metadata.metadata("mlvl_fairseq").get_all("Provides-Extra") or []:
        extra = known.get(name, Extra("", []))
        own = [one for one in listed if one.marker and one.marker.evaluate({"extra": name})]
        found.append(Status(name, extra.purpose, [], [], f"pip install 'mlvl_fairseq[{name}]'"))
        for requirement in own:
            version = installed_version(requirement.name)
            if version and requirement.specifier.contains(version, prereleases=True):
                found[-1].there.append(f"{requirement.name} {version}")
            else:
                too_old = f" (found: {version})" if version else ""
                found[-1].missing.append(f"{requirement.name}{requirement.specifier}{too_old}")
        for one in extra.programs:
            path = one.path()
            there, missing = ([path], []) if path else ([], [one.commands[0]])
            found.append(Status(one.name, one.purpose, there, missing, one.install))
    return found


def installed_version(distribution: str) -> Optional[str]:
    """Of a package; None: it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
