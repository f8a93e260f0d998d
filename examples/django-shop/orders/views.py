"""What the shop's pages ask for, as JSON."""

import json

from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_GET, require_POST
from payments.models import Payment

from orders import hot
from orders.models import Order, PaymentOfOrder, Product


@require_POST
def place(request: HttpRequest) -> JsonResponse:
    """`{"product": 1}` becomes an order; its number is what the shop gives the provider as metadata `order_id`."""
    product = get_object_or_404(Product, pk=json.loads(request.body)["product"])
    order = Order.objects.create(product=product, total=product.price, currency=product.currency)
    return JsonResponse(hot.seen(order), status=201)


@require_GET
def show(_request: HttpRequest, number: int) -> JsonResponse:
    """An order, from Redis where it is hot."""
    try:
        return JsonResponse(hot.read(number))
    except Order.DoesNotExist:
        return JsonResponse({"error": "no such order"}, status=404)


@require_GET
def payments(_request: HttpRequest, number: int) -> JsonResponse:
    """The payments of an order: which ones says Postgres, what became of them Cassandra."""
    ids = PaymentOfOrder.objects.filter(order_ref=str(number)).values_list("payment_id", flat=True)
    found = Payment.objects.filter(payment_id__in=list(ids))
    return JsonResponse({"payments": [dict(payment) for payment in found]})
