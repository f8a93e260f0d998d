"""Something to buy."""

from django.db import migrations


def add_products(apps, _schema_editor):
    apps.get_model("orders", "Product").objects.create(name="Tea, 100 g", price="19.99", currency="EUR")


class Migration(migrations.Migration):
    dependencies = [("orders", "0002_order_changed")]
    operations = [migrations.RunPython(add_products, migrations.RunPython.noop)]
