"""The platforms that a wheel can be built for."""

from __future__ import annotations

from typing import Literal, get_args

from build_matrix.errors import MissingPrerequisiteError

Platform = Literal["linux-x86_64", "windows-x86_64"]


def supported_platform(name: str) -> Platform:
    """The platform of this name; raises MissingPrerequisiteError for one that is not supported."""
    platforms: tuple[Platform, ...] = get_args(Platform)
    if found := next((platform for platform in platforms if platform == name), None):
        return found
    raise MissingPrerequisiteError(
        f"Building on {name.replace('-', ' ', 1)} is not supported.", "Use Linux x86-64 with glibc."
    )
