"""`manage.py follow_orders`."""

import logging
import time
from datetime import timedelta

from django.core.management.base import BaseCommand
from django.db import InterfaceError, OperationalError, connection
from django.db.models.functions import Now
from orders import hot
from orders.models import Order
from redis.exceptions import RedisError

# Changes that come within this time are read in one query, seconds.
GATHER = 0.05

log = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Keeps the orders in Redis as they are in Postgres; ends with SIGTERM."

    def handle(self, **_options):
        while True:
            try:
                follow()
            except (OperationalError, InterfaceError, RedisError) as error:
                log.warning("Postgres or Redis is away, trying again: %s", error)
                connection.close()
                time.sleep(1)


def follow():
    """Follows what `orders/migrations/0002_order_changed.py` tells, as long as both connections last."""
    connection.ensure_connection()
    told = connection.connection
    # Its errors are the driver's own.
    with connection.wrap_database_errors:
        told.execute("LISTEN order_changed")
        # What changed before was not told; what changed longer ago than orders stay in Redis is not there.
        recent = Order.objects.filter(changed_at__gt=Now() - timedelta(seconds=2 * hot.SECONDS))
        hot.refresh(set(recent.values_list("pk", flat=True)))
        log.warning("follows the orders")
        while True:
            changed = [notice.payload for notice in told.notifies(stop_after=1)]
            changed += [notice.payload for notice in told.notifies(timeout=GATHER)]
            hot.refresh({int(number) for number in changed if number.isdecimal()})
