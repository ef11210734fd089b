"""The life of alerts, for all rules."""

from operators.alerts.alerts import Alerts, Cause, Held, Orders, source_alert
from operators.alerts.orders import OrderBook

__all__ = ["Alerts", "Cause", "Held", "OrderBook", "Orders", "source_alert"]
