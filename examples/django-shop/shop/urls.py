"""The shop's addresses."""

from django.urls import path
from orders import views

urlpatterns = [
    path("orders", views.place),
    path("orders/<int:number>", views.show),
    path("orders/<int:number>/payments", views.payments),
]
