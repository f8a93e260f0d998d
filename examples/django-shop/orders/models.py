"""Products and orders, in Postgres. Tollgate writes `status`, `paid`, `refunded`, `disputed` and `changed_at` of an order."""

from decimal import Decimal

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

NOTHING = Decimal("0.00")


class Product(models.Model):
    name = models.CharField(max_length=100)
    price = models.DecimalField(max_digits=12, decimal_places=2)
    currency = models.CharField(max_length=3, default="EUR")

    def __str__(self) -> str:
        return self.name


class Order(models.Model):
    class Status(models.TextChoices):
        PLACED = "placed"
        RESERVED = "reserved"
        PAID = "paid"
        SHIPPED = "shipped"
        PARTLY_REFUNDED = "partly_refunded"
        REFUNDED = "refunded"
        DISPUTED = "disputed"
        CANCELLED = "cancelled"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT)
    product = models.ForeignKey(Product, on_delete=models.PROTECT)
    total = models.DecimalField(max_digits=12, decimal_places=2)
    currency = models.CharField(max_length=3)
    status = models.CharField(max_length=20, choices=Status, default=Status.PLACED)
    paid = models.DecimalField(max_digits=12, decimal_places=2, default=NOTHING)
    refunded = models.DecimalField(max_digits=12, decimal_places=2, default=NOTHING)
    disputed = models.DecimalField(max_digits=12, decimal_places=2, default=NOTHING)
    placed_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(auto_now=True, db_index=True)

    def __str__(self) -> str:
        return f"order {self.pk}"

    def ship(self) -> bool:
        """Marks a paid order as shipped; whether it was paid. `save()` would write all columns, and so put back what Tollgate has
        written since this order was read."""
        paid = Order.objects.filter(pk=self.pk, status=self.Status.PAID)
        return paid.update(status=self.Status.SHIPPED, changed_at=Now()) == 1


class PaymentOfOrder(models.Model):
    """Which payments an order has: Tollgate's own table in Postgres, only read here."""

    payment_id = models.UUIDField(primary_key=True)
    order_ref = models.TextField()

    class Meta:
        managed = False
        db_table = "payments"
