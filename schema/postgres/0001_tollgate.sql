-- Tollgate's own tables in Postgres, in the schema that `postgres.schema` names. All of them can be dropped and built
-- again from Cassandra with `reconciler replay`; only the history in `transitions` and `closed_breaks` is then new.

-- One compact row a payment, never pruned. `facts` holds the merged events (domain::fold::Facts); the other columns
-- are derived from them, for people, for joins and for the sweep. Amounts are minor units of `currency`.
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
    version      bigint NOT NULL,
    -- UTC day of the latest event: with the region, where the sweep finds the payment in Cassandra.
    day          date NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX payments_order_ref ON payments (order_ref);
CREATE INDEX payments_day ON payments (region, day, payment_id);

-- Ids under which events name a payment that has another id: a dispute's, or a capture's (domain::PaymentEvent::alias).
-- Brought by the events that name both.
CREATE TABLE links (
    alias      uuid PRIMARY KEY,
    payment_id uuid NOT NULL
);

-- Events that wait for their order, or for the payment that knows their order. Deleted when they are applied.
CREATE TABLE parked_events (
    event_id     uuid NOT NULL,
    content_hash bytea NOT NULL,
    payment_id   uuid NOT NULL,
    order_ref    text,
    kind         text NOT NULL,
    record       bytea NOT NULL,
    parked_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, content_hash)
);
CREATE INDEX parked_events_payment ON parked_events (payment_id);
-- What a break about parked events is about.
CREATE INDEX parked_events_subject ON parked_events ((coalesce(order_ref, payment_id::text)));
CREATE INDEX parked_events_order ON parked_events (order_ref) WHERE order_ref IS NOT NULL;

-- What does not fit now, one row a kind and subject. It leaves by itself when the difference goes away. One that a
-- person resolved stays, but counts no more until its amounts change.
CREATE TABLE breaks (
    kind        text NOT NULL,
    -- The order's reference, the payment's or the event's id, as the kind says.
    subject     text NOT NULL,
    order_ref   text,
    payment_id  uuid,
    region      text,
    day         date,
    currency    text,
    -- Minor units of `currency`.
    expected    bigint,
    actual      bigint,
    detail      text NOT NULL,
    first_seen  timestamptz NOT NULL DEFAULT now(),
    last_seen   timestamptz NOT NULL DEFAULT now(),
    resolved_at timestamptz,
    resolution  text,
    PRIMARY KEY (kind, subject)
);
CREATE INDEX breaks_subject ON breaks (subject);

-- Breaks that are gone. A partition a month, pruned after `reconciler.history_days`.
CREATE TABLE closed_breaks (
    LIKE breaks,
    closed_at timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (closed_at);
CREATE INDEX closed_breaks_subject ON closed_breaks (subject);

-- Every change of an order's status, with the event that caused it. A partition a month, pruned like closed breaks.
CREATE TABLE transitions (
    order_ref   text NOT NULL,
    from_status text NOT NULL,
    to_status   text NOT NULL,
    event_id    uuid NOT NULL,
    -- Under the order's lock, so that one order's transitions are in their order.
    at          timestamptz NOT NULL DEFAULT clock_timestamp()
) PARTITION BY RANGE (at);
CREATE INDEX transitions_order_ref ON transitions (order_ref);

-- The sweep's work: one row a region, day and lane. Whoever claims it sweeps it; a claim that is not renewed ends.
CREATE TABLE sweeps (
    region        text NOT NULL,
    day           date NOT NULL,
    lane          int NOT NULL,
    requested_at  timestamptz NOT NULL DEFAULT now(),
    claimed_until timestamptz,
    finished_at   timestamptz,
    events        bigint NOT NULL DEFAULT 0,
    healed        bigint NOT NULL DEFAULT 0,
    reported      bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (region, day, lane)
);
CREATE INDEX sweeps_open ON sweeps (region, day) WHERE finished_at IS NULL;
