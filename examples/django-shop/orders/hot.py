"""Orders for hot reads, in Redis.

Two write there. Who reads an order that is not there adds it, never over what is there. `follow_orders` puts each order that
changed there, read after the change was committed. So what is in Redis is no older than what the follower has seen.
"""

from django.core.cache import cache
from orders.models import Order
from redis.exceptions import RedisError

# How long an order may be read that changed while nobody followed.
SECONDS = 60


def read(number: int) -> dict:
    """An order as people see it; from Postgres while Redis is away. Raises `Order.DoesNotExist`."""
    try:
        order = cache.get(key(number))
        if order is None:
            order = seen(Order.objects.get(pk=number))
            cache.add(key(number), order, SECONDS)
        return order
    except RedisError:
        return seen(Order.objects.get(pk=number))


def refresh(numbers: set[int]) -> None:
    """Puts these orders there as they are now; those that are gone are taken away."""
    there = {order.pk: seen(order) for order in Order.objects.filter(pk__in=numbers)}
    cache.set_many({key(number): order for number, order in there.items()}, SECONDS)
    cache.delete_many([key(number) for number in numbers if number not in there])


def key(number: int) -> str:
    return f"order:{number}"


def seen(order: Order) -> dict:
    fields = ("id", "total", "currency", "status", "paid", "refunded", "disputed")
    return {field: getattr(order, field) for field in fields}
