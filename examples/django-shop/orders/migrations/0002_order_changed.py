"""Tells on the channel `order_changed` which order changed, whoever changed it; Postgres sends it with the commit."""

from django.db import migrations

TELL = """
CREATE FUNCTION order_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('order_changed', coalesce(NEW.id, OLD.id)::text);
    RETURN NULL;
END $$;
CREATE TRIGGER order_changed AFTER INSERT OR UPDATE OR DELETE ON orders_order
    FOR EACH ROW EXECUTE FUNCTION order_changed();
"""


class Migration(migrations.Migration):
    dependencies = [("orders", "0001_initial")]
    operations = [
        migrations.RunSQL(TELL, "DROP TRIGGER order_changed ON orders_order; DROP FUNCTION order_changed();"),
    ]
