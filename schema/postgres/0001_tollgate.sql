-- Tollgate's tables in Postgres, in the schema that the reconciler's configuration names (its search_path).

-- The shop's orders. The shop inserts reference, total and currency; Tollgate writes the rest.
CREATE TABLE orders (
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

-- One compact row a payment, never pruned. `facts` holds the merged events (domain::fold::Facts); the other columns
-- are derived from them, for people and for joins. Amounts are minor units of `currency`.
CREATE TABLE payments (
    payment_id   uuid PRIMARY KEY,
    order_ref    text NOT NULL,
    provider     text NOT NULL,
    account      text NOT NULL,
    provider_ref text NOT NULL,
    region       text NOT NULL,
    currency     text,
    status       text NOT NULL,
    captured     bigint NOT NULL,
    refunded     bigint NOT NULL,
    disputed     bigint NOT NULL,
    facts        bytea NOT NULL,
    -- Microseconds; grows with every change. Orders the writes to the shop's view in Cassandra.
    version      bigint NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX payments_order_ref ON payments (order_ref);

-- Events that wait for their order, or for the payment that knows their order.
CREATE TABLE parked_events (
    event_id     uuid NOT NULL,
    content_hash bytea NOT NULL,
    payment_id   uuid NOT NULL,
    order_ref    text,
    record       bytea NOT NULL,
    parked_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, content_hash)
);
CREATE INDEX parked_events_payment ON parked_events (payment_id);
-- What a break about parked events is about.
CREATE INDEX parked_events_subject ON parked_events ((coalesce(order_ref, payment_id::text)));
CREATE INDEX parked_events_order ON parked_events (order_ref) WHERE order_ref IS NOT NULL;

-- What does not fit, one row a kind and subject; closed by itself when the difference goes away.
CREATE TABLE breaks (
    kind       text NOT NULL,
    subject    text NOT NULL,
    detail     text NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT now(),
    last_seen  timestamptz NOT NULL DEFAULT now(),
    closed_at  timestamptz,
    PRIMARY KEY (kind, subject)
);
CREATE INDEX breaks_open ON breaks (subject) WHERE closed_at IS NULL;

-- Every change of an order's status, with the event that caused it.
CREATE TABLE transitions (
    order_ref   text NOT NULL,
    from_status text NOT NULL,
    to_status   text NOT NULL,
    event_id    uuid NOT NULL,
    at          timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX transitions_at ON transitions USING brin (at);
