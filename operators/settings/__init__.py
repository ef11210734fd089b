"""Which version of a site's settings holds when."""

from operators.settings.book import NEVER_US, Placement, SettingsBook

__all__ = ["NEVER_US", "Placement", "SettingsBook"]
