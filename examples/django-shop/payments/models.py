"""Payments, in Cassandra: Tollgate writes them, the shop reads them."""

from cassandra.cqlengine import columns
from django_cassandra_engine.models import DjangoCassandraModel


class Payment(DjangoCassandraModel):
    __table_name__ = "payments"

    payment_id = columns.UUID(primary_key=True)
    user_id = columns.UUID()
    order_id = columns.UUID()
    amount = columns.Decimal()
    status = columns.Text()
    # cqlengine keeps the name `timestamp` for itself.
    reported_at = columns.DateTime(db_field="timestamp")

    class Meta:
        get_pk_field = "payment_id"
