"""Orders for hot reads, in Redis.

Two write there. Who reads an order that is not there adds it, never over what is there. `follow_orders` puts each order that
changed there, read after the change was committed. So an order in Redis is never older than what the follower has seen.
"""

from django.core.cache import cache
from django.forms.models import model_to_dict

from orders.models import Order

# How long an order may be read that changed while nobody followed.
SECONDS = 60


def read(number: int) -> dict:
    """An order as people see it. Raises `Order.DoesNotExist`."""
    order = cache.get(key(number))
    if order is None:
        order = seen(Order.objects.get(pk=number))
        cache.add(key(number), order, SECONDS)
    return order


def refresh(numbers: set[int]) -> None:
    """Puts these orders there as they are now."""
    cache.set_many({key(order.pk): seen(order) for order in Order.objects.filter(pk__in=numbers)}, SECONDS)


def key(number: int) -> str:
    return f"order:{number}"


def seen(order: Order) -> dict:
    return model_to_dict(order, ["id", "total", "currency", "status", "paid", "refunded", "disputed"])
