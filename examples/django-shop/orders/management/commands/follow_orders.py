"""`manage.py follow_orders`."""

import logging
import time

from django.core.cache import cache
from django.core.management.base import BaseCommand
from django.db import OperationalError, connection
from orders import hot

# Changes that come within this time are read in one query, seconds.
GATHER = 0.05

log = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Keeps the orders in Redis as they are in Postgres; ends with SIGINT or SIGTERM."

    def handle(self, **_options):
        while True:
            try:
                follow()
            except OperationalError as error:
                log.warning("Postgres is away, trying again: %s", error)
                connection.close()
                time.sleep(1)


def follow():
    """Follows what `orders/migrations/0002_order_changed.py` tells, as long as the connection lasts."""
    connection.ensure_connection()
    told = connection.connection
    told.execute("LISTEN order_changed")
    # What changed before is not told.
    cache.clear()
    log.warning("follows the orders")
    while True:
        changed = {int(notice.payload) for notice in told.notifies(stop_after=1)}
        changed |= {int(notice.payload) for notice in told.notifies(timeout=GATHER)}
        hot.refresh(changed)
