"""Puts the folders that bench/analysis and bench/experiments link to into the wheel."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Links(BuildHookInterface):  # type: ignore[misc]
    """An editable wheel has the links themselves: folders in it would be a stale second copy."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the folders to a standard wheel."""
        if version == "standard":
            for name in ("analysis", "experiments"):
                build_data["force_include"][name] = f"bench/{name}"
