"""What the shop's pages ask for, as JSON. An example: nobody signs in, and everybody may see every order."""

import json

from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_GET, require_POST
from payments.models import Payment

from orders import hot
from orders.models import Order, PaymentOfOrder, Product


@require_POST
def place(request: HttpRequest) -> JsonResponse:
    """`{"product": 1}` becomes an order. A real shop goes on here with `stripe.PaymentIntent.create(amount=…, currency=…,
    metadata={"order_id": str(order.pk)})`: by that number Tollgate finds the order."""
    try:
        product = Product.objects.get(pk=json.loads(request.body)["product"])
    except (ValueError, KeyError, TypeError):
        return refused(400, 'the body is like {"product": 1}')
    except Product.DoesNotExist:
        return refused(404, "no such product")
    order = Order.objects.create(product=product, total=product.price, currency=product.currency)
    return JsonResponse(hot.seen(order), status=201)


@require_GET
def show(_request: HttpRequest, number: int) -> JsonResponse:
    """An order, from Redis where it is hot."""
    try:
        return JsonResponse(hot.read(number))
    except Order.DoesNotExist:
        return refused(404, "no such order")


@require_GET
def payments(_request: HttpRequest, number: int) -> JsonResponse:
    """The payments of an order: which ones says Postgres, what became of them Cassandra."""
    if not Order.objects.filter(pk=number).exists():
        return refused(404, "no such order")
    ids = list(PaymentOfOrder.objects.filter(order_ref=str(number)).values_list("payment_id", flat=True))
    found = Payment.objects.filter(payment_id__in=ids) if ids else []
    return JsonResponse({"payments": [dict(payment) for payment in found]})


def refused(status: int, why: str) -> JsonResponse:
    return JsonResponse({"error": why}, status=status)
