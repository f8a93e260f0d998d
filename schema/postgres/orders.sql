-- The shop's orders, where the shop has no table of its own (`orders.create`). The shop inserts reference, total and
-- currency; Tollgate writes the rest.
CREATE TABLE IF NOT EXISTS orders (
    reference  text PRIMARY KEY,
    user_ref   text,
    total      numeric(24, 4) NOT NULL CHECK (total >= 0),
    currency   text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    status     text NOT NULL DEFAULT 'pending',
    paid       numeric(24, 4) NOT NULL DEFAULT 0,
    refunded   numeric(24, 4) NOT NULL DEFAULT 0,
    disputed   numeric(24, 4) NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 80);
