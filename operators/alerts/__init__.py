"""Rules and the life of alerts."""

from operators.alerts.alerts import Alerts, Cause, Dwelling, source_alert
from operators.alerts.run import Run

__all__ = ["Alerts", "Cause", "Dwelling", "Run", "source_alert"]
