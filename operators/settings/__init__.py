"""Which version of a site's settings holds when."""

from operators.settings.book import Placement, SettingsBook, Version

__all__ = ["Placement", "SettingsBook", "Version"]
