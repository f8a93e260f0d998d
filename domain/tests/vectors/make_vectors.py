#!/usr/bin/env python3
"""Make the webhook test vectors of this folder with the providers' own libraries.

Made with Python 3.11 and exactly:

    stripe==16.1.0
    Adyen==16.0.0
    standardwebhooks==1.1.0

How to run it (from this folder):

    python3 -m venv .venv
    .venv/bin/pip install stripe==16.1.0 Adyen==16.0.0 standardwebhooks==1.1.0
    .venv/bin/python make_vectors.py            # writes the *.json files
    .venv/bin/python make_vectors.py --check    # only compares them

(keep the environment outside the repository, or do not add it.)

Every signature here is computed by the official library, and every vector is
then given to the official verifier with the clock stopped at its `now_unix`:
those of stripe.json, adyen.json and standard_webhooks.json were accepted, those
of refused.json were not. The script stops if any verdict differs.

The output is deterministic: fixed times, fixed ids, fixed secrets. The secrets
are made up for these files and have never belonged to any account. Nothing here
uses the network.
"""

import base64
import contextlib
import copy
import json
import logging
import os
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from types import SimpleNamespace
from unittest import mock

import stripe
import stripe._webhook
import standardwebhooks.webhooks
from Adyen.util import generate_notification_sig, is_valid_hmac_notification
from standardwebhooks.webhooks import Webhook as StandardWebhook

PINNED = {"stripe": "16.1.0", "Adyen": "16.0.0", "standardwebhooks": "1.1.0"}

HERE = os.path.dirname(os.path.abspath(__file__))
logging.getLogger("stripe").setLevel(logging.CRITICAL)

# 2026-11-24T10:00:00Z
BASE = int(datetime(2026, 11, 24, 10, 0, 0, tzinfo=timezone.utc).timestamp())
assert BASE == 1795514400

# ---------------------------------------------------------------- secrets (fake)

STRIPE_A = "whsec_FAKE_tollgate_test_vectors_only_A"
STRIPE_B = "whsec_FAKE_tollgate_test_vectors_only_B"
# Looks like base64 after the prefix: Stripe still uses the whole string as the key.
STRIPE_C = "whsec_" + base64.b64encode(b"fake stripe secret C, not real").decode()

ADYEN_A = "00112233445566778899AABBCCDDEEFF" * 2
ADYEN_B = "DEADBEEF" * 8
ADYEN_LOWER = "c0ffee00" * 8

SW_OLD = "whsec_" + base64.b64encode(b"FAKE-old-secret-tollgate").decode()  # 24 bytes
SW_NEW = "whsec_" + base64.b64encode(b"FAKE-new-secret-of-tollgate-tests").decode()  # 33
SW_PAD = "whsec_" + base64.b64encode(b"FAKE-padded-secret-32-bytes-long").decode()  # "="
SW_OTHER = "whsec_" + base64.b64encode(b"FAKE-secret-of-someone-else").decode()

# ---------------------------------------------------------------- body styles
# The signed bytes are the body as sent, so the bodies must not all look alike.


def pretty(o):
    """Two spaces, raw UTF-8: what Stripe sends."""
    return json.dumps(o, indent=2, ensure_ascii=False)


def compact(o):
    return json.dumps(o, separators=(",", ":"), ensure_ascii=False)


def escaped(o):
    """Compact, everything outside ASCII as \\uXXXX (surrogate pairs for emoji)."""
    return json.dumps(o, separators=(",", ":"), ensure_ascii=True)


def slashes(o):
    """Compact, `/` written as `\\/`."""
    return compact(o).replace("/", "\\/")


def crlf(o):
    return pretty(o).replace("\n", "\r\n") + "\r\n"


def tabs(o):
    return json.dumps(o, indent="\t", ensure_ascii=False) + "\n"


def airy(o):
    """Blanks where nobody expects them, before and after the value too."""
    return " \n\t" + json.dumps(o, indent=1, separators=(" , ", " : "), ensure_ascii=False) + "  \n\n"


def backwards(o):
    """Keys in reverse order at every level."""

    def turn(x):
        if isinstance(x, dict):
            return {k: turn(x[k]) for k in reversed(list(x))}
        if isinstance(x, list):
            return [turn(i) for i in x]
        return x

    return compact(turn(o))


def escaped_keys(o):
    """Some key names spelled with escapes; equal to the plain ones once parsed."""
    raw = compact(o)
    for plain, spelled in (
        ('"type":', '"\\u0074ype":'),
        ('"id":', '"\\u0069d":'),
        ('"amount":', '"am\\u006funt":'),
        ('"pspReference":', '"psp\\u0052eference":'),
    ):
        raw = raw.replace(plain, spelled)
    return raw


def rendered(style, o):
    raw = style(o)
    assert json.loads(raw) == o
    return raw


# ---------------------------------------------------------------- official verifiers


@contextlib.contextmanager
def stopped_clock(now):
    """Stop the clock of the stripe and standardwebhooks modules at `now`."""

    class Stopped(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(now, tz=tz)

    with mock.patch.object(
        stripe._webhook, "time", SimpleNamespace(time=lambda: float(now))
    ), mock.patch.object(standardwebhooks.webhooks, "datetime", Stopped):
        yield


def verdict(v):
    """(accepted, what the official library said) for a vector."""
    headers, body = v["headers"], v["body"]
    with stopped_clock(v["now_unix"]):
        try:
            if v["provider"] == "stripe":
                event = stripe.Webhook.construct_event(
                    body.encode("utf-8"), headers.get("stripe-signature"), v["secret"]
                )
                assert event.object == "event"
                return True, "accepted"
            if v["provider"] == "standard_webhooks":
                StandardWebhook(v["secret"]).verify(body.encode("utf-8"), headers)
                return True, "accepted"
            if v["provider"] == "adyen":
                # The util looks only at the first item of a request: give it each item.
                for n, wrapped in enumerate(json.loads(body)["notificationItems"]):
                    answer = is_valid_hmac_notification(
                        wrapped["NotificationRequestItem"], v["secret"]
                    )
                    if answer is not True:
                        return False, f"item {n}: returned {answer}"
                return True, "accepted"
        except Exception as e:  # any exception is a refusal
            said = str(e).replace("\n", " ")
            return False, f"{type(e).__name__}: {said}"
    raise AssertionError(v["provider"])


# ---------------------------------------------------------------- Stripe


def stripe_sig(t, body, secret):
    return stripe.WebhookSignature._compute_signature(f"{t}.{body}", secret)


def stripe_headers(signature):
    return {
        "accept": "*/*; q=0.5, application/xml",
        "cache-control": "no-cache",
        "content-type": "application/json; charset=utf-8",
        "stripe-signature": signature,
        "user-agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
    }


def sid(prefix, n):
    """A Stripe-like id that says that it is none."""
    return f"{prefix}_3FAKEtollgate{n:011d}"


SDK_SHAPES = {
    "payment_intent": stripe.PaymentIntent,
    "charge": stripe.Charge,
    "refund": stripe.Refund,
    "dispute": stripe.Dispute,
    "customer": stripe.Customer,
    "event": stripe.Event,
    "balance_transaction": stripe.BalanceTransaction,
    "payment_method": stripe.PaymentMethod,
}


def check_shape(o):
    """No field that the SDK does not document, at any object that names its kind."""
    if isinstance(o, dict):
        named = o.get("object")
        kind = SDK_SHAPES.get(named) if isinstance(named, str) else None
        if kind is not None:
            unknown = set(o) - set(kind.__annotations__) - {"type", "data"}
            assert not unknown, (o["object"], unknown)
        for v in o.values():
            check_shape(v)
    elif isinstance(o, list):
        for v in o:
            check_shape(v)


ADDRESS = {
    "city": "Köln",
    "country": "DE",
    "line1": "Hohe Straße 1/2",
    "line2": None,
    "postal_code": "50667",
    "state": None,
}


def billing():
    return {
        "address": copy.deepcopy(ADDRESS),
        "email": "zoë.müller@example.com",
        "name": "Zoë Müller 🛒",
        "phone": "+49 221 5550100",
        "tax_id": None,
    }


def payment_intent(n, **over):
    o = {
        "id": sid("pi", n),
        "object": "payment_intent",
        "amount": 1999,
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": {"allow_redirects": "always", "enabled": True},
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic_async",
        "client_secret": sid("pi", n) + "_secret_FAKE",
        "confirmation_method": "automatic",
        "created": BASE - 60,
        "currency": "eur",
        "customer": sid("cus", 1),
        "customer_account": None,
        "description": "Order A-1001 \u2013 2 \u00d7 \u201cT\u2010Shirt\u201d <b>L</b> & more\\less",
        "excluded_payment_method_types": None,
        "last_payment_error": None,
        "latest_charge": sid("ch", n),
        "livemode": False,
        "metadata": {"order_id": f"A-{1000 + n}", "user_id": f"u-{n}"},
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": sid("pm", n),
        "payment_method_configuration_details": {"id": sid("pmc", 1), "parent": None},
        "payment_method_options": {
            "card": {
                "installments": None,
                "mandate_options": None,
                "network": None,
                "request_three_d_secure": "automatic",
            },
            "link": {"persistent_token": None},
        },
        "payment_method_types": ["card", "link"],
        "processing": None,
        "receipt_email": "zoe.mueller@example.com",
        "review": None,
        "setup_future_usage": None,
        "shipping": {
            "address": copy.deepcopy(ADDRESS),
            "carrier": None,
            "name": "Zoë Müller",
            "phone": None,
            "tracking_number": None,
        },
        "source": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": "A1001",
        "status": "succeeded",
        "transfer_data": None,
        "transfer_group": None,
    }
    o.update(over)
    return o


def card_details(amount):
    return {
        "card": {
            "amount_authorized": amount,
            "authorization_code": "123456",
            "brand": "visa",
            "checks": {
                "address_line1_check": "pass",
                "address_postal_code_check": "pass",
                "cvc_check": "pass",
            },
            "country": "DE",
            "exp_month": 3,
            "exp_year": 2030,
            "extended_authorization": {"status": "disabled"},
            "fingerprint": "FAKEfingerprint1",
            "funding": "credit",
            "incremental_authorization": {"status": "unavailable"},
            "installments": None,
            "last4": "4242",
            "mandate": None,
            "multicapture": {"status": "unavailable"},
            "network": "visa",
            "network_token": {"used": False},
            "network_transaction_id": "100000000000001",
            "overcapture": {"maximum_amount_capturable": amount, "status": "unavailable"},
            "regulated_status": "unregulated",
            "three_d_secure": None,
            "wallet": None,
        },
        "type": "card",
    }


def charge(n, **over):
    amount = over.get("amount", 1999)
    o = {
        "id": sid("ch", n),
        "object": "charge",
        "amount": amount,
        "amount_captured": amount,
        "amount_refunded": 0,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": sid("txn", n),
        "billing_details": billing(),
        "calculated_statement_descriptor": "TOLLGATE SHOP* A1001",
        "captured": True,
        "created": BASE - 3600,
        "currency": "eur",
        "customer": sid("cus", 1),
        "description": None,
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "fraud_details": {},
        "livemode": False,
        "metadata": {"order_id": f"A-{1000 + n}", "user_id": f"u-{n}"},
        "on_behalf_of": None,
        "outcome": {
            "advice_code": None,
            "network_advice_code": None,
            "network_decline_code": None,
            "network_status": "approved_by_network",
            "reason": None,
            "risk_level": "normal",
            "risk_score": 12,
            "seller_message": "Payment complete.",
            "type": "authorized",
        },
        "paid": True,
        "payment_intent": sid("pi", n),
        "payment_method": sid("pm", n),
        "payment_method_details": card_details(amount),
        "presentment_details": None,
        "radar_options": {},
        "receipt_email": "zoe.mueller@example.com",
        "receipt_number": None,
        "receipt_url": "https://pay.stripe.com/receipts/payment/FAKE-receipt?s=ap",
        "refunded": False,
        "review": None,
        "shipping": None,
        "source": None,
        "source_transfer": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": "A1001",
        "status": "succeeded",
        "transfer_data": None,
        "transfer_group": None,
    }
    o.update(over)
    return o


def refund(n, payment, **over):
    o = {
        "id": sid("re", n),
        "object": "refund",
        "amount": 500,
        "balance_transaction": sid("txn", 100 + n),
        "charge": sid("ch", payment),
        "created": BASE - 5,
        "currency": "eur",
        "destination_details": {
            "card": {"reference_status": "pending", "reference_type": "acquirer_reference_number", "type": "refund"},
            "type": "card",
        },
        "metadata": {},
        "payment_intent": sid("pi", payment),
        "payment_method": sid("pm", payment),
        "reason": "requested_by_customer",
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "succeeded",
        "transfer_reversal": None,
    }
    o.update(over)
    return o


def balance_transaction(n, amount, fee, currency, source, category, kind):
    return {
        "id": sid("txn", n),
        "object": "balance_transaction",
        "amount": amount,
        "available_on": BASE + 172800,
        "balance_type": "payments",
        "created": BASE - 10,
        "currency": currency,
        "description": "Chargeback withdrawal" if amount < 0 else "Chargeback reversal",
        "exchange_rate": None,
        "fee": fee,
        "fee_details": (
            [{"amount": fee, "application": None, "currency": currency, "description": "Dispute fee", "type": "stripe_fee"}]
            if fee
            else []
        ),
        "net": amount - fee,
        "reporting_category": category,
        "source": source,
        "status": "pending",
        "type": kind,
    }


EVIDENCE_FIELDS = (
    "access_activity_log billing_address cancellation_policy cancellation_policy_disclosure "
    "cancellation_rebuttal customer_communication customer_email_address customer_name "
    "customer_purchase_ip customer_signature duplicate_charge_documentation "
    "duplicate_charge_explanation duplicate_charge_id product_description receipt refund_policy "
    "refund_policy_disclosure refund_refusal_explanation service_date service_documentation "
    "shipping_address shipping_carrier shipping_date shipping_documentation "
    "shipping_tracking_number uncategorized_file uncategorized_text"
).split()


def dispute(n, payment, **over):
    amount = over.get("amount", 1999)
    currency = over.get("currency", "eur")
    evidence = {k: None for k in EVIDENCE_FIELDS}
    evidence.update(
        {
            "customer_email_address": "zoë.müller@example.com",
            "customer_name": "Zoë Müller 🛒",
            "customer_purchase_ip": "203.0.113.7",
            "enhanced_evidence": {},
        }
    )
    o = {
        "id": sid("du", n),
        "object": "dispute",
        "amount": amount,
        "balance_transactions": [
            balance_transaction(200 + n, -amount, 1500, currency, sid("du", n), "dispute", "adjustment")
        ],
        "charge": sid("ch", payment),
        "created": BASE - 20,
        "currency": currency,
        "enhanced_eligibility_types": [],
        "evidence": evidence,
        "evidence_details": {
            "due_by": BASE + 777600,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
            "submission_method": "not_submitted",
        },
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": {},
        "network_reason_code": "10.4",
        "payment_intent": sid("pi", payment),
        "payment_method_details": {
            "card": {"brand": "visa", "case_type": "chargeback", "network": "visa", "network_reason_code": "10.4"},
            "type": "card",
        },
        "reason": "fraudulent",
        "status": "needs_response",
    }
    o.update(over)
    return o


def customer(n):
    return {
        "id": sid("cus", n),
        "object": "customer",
        "address": copy.deepcopy(ADDRESS),
        "balance": 0,
        "created": BASE - 3,
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "discount": None,
        "email": "zoë.müller@example.com",
        "invoice_prefix": "FAKE0001",
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": False,
        "metadata": {"user_id": "u-1"},
        "name": "Zoë Müller 🛒",
        "next_invoice_sequence": 1,
        "phone": None,
        "preferred_locales": ["de", "en"],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
    }


def card_error(n):
    return {
        "advice_code": "try_again_later",
        "charge": sid("ch", n),
        "code": "card_declined",
        "decline_code": "insufficient_funds",
        "doc_url": "https://stripe.com/docs/error-codes/card-declined",
        "message": "Your card has insufficient funds.",
        "network_decline_code": "51",
        "payment_method": {
            "id": sid("pm", n),
            "object": "payment_method",
            "allow_redisplay": "unspecified",
            "billing_details": billing(),
            "card": {
                "brand": "visa",
                "checks": {
                    "address_line1_check": None,
                    "address_postal_code_check": None,
                    "cvc_check": "pass",
                },
                "country": "DE",
                "display_brand": "visa",
                "exp_month": 3,
                "exp_year": 2030,
                "fingerprint": "FAKEfingerprint2",
                "funding": "credit",
                "generated_from": None,
                "last4": "9995",
                "networks": {"available": ["visa"], "preferred": None},
                "regulated_status": "unregulated",
                "three_d_secure_usage": {"supported": True},
                "wallet": None,
            },
            "created": BASE - 61,
            "customer": None,
            "livemode": False,
            "metadata": {},
            "type": "card",
        },
        "type": "card_error",
    }


def event(n, kind, obj, *, created, account=None, previous=None, api_version="2026-10-28.endive", own_request=True):
    o = {"id": sid("evt", n), "object": "event"}
    if account is not None:
        o["account"] = account
    o["api_version"] = api_version
    o["created"] = created
    o["data"] = {"object": obj}
    if previous is not None:
        o["data"]["previous_attributes"] = previous
    o["livemode"] = False
    o["pending_webhooks"] = 1
    o["request"] = (
        {"id": f"req_FAKEtollgate{n:03d}", "idempotency_key": f"00000000-0000-4000-8000-{n:012d}"}
        if own_request
        else {"id": None, "idempotency_key": None}
    )
    o["type"] = kind
    check_shape(o)
    return o


def stripe_vectors():
    out = []

    def add(
        name,
        ev,
        tollgate_type,
        amount_field,
        *,
        style=pretty,
        secret=STRIPE_A,
        sent_after=2,
        now_after=1,
        exponent=2,
        cumulative=False,
        sign=None,
        secrets=None,
    ):
        obj = ev["data"]["object"]
        body = rendered(style, ev)
        t = ev["created"] + sent_after
        if sign is None:
            header = f"t={t},v1={stripe_sig(t, body, secret)}"
        else:
            header = sign(t, body)
        kind = obj["object"]
        payment = obj["id"] if kind == "payment_intent" else obj.get("payment_intent")
        metadata = obj.get("metadata") or {}
        money = amount_field is not None
        v = {
            "name": name,
            "provider": "stripe",
            "secret": secret,
            "now_unix": t + now_after,
            "headers": stripe_headers(header),
            "body": body,
            "expect": {
                "provider_event_id": ev["id"],
                "type": ev["type"],
                "account": ev.get("account"),
                "amount_field": amount_field,
                "amount_is_cumulative": cumulative,
                "amount_minor": obj[amount_field] if money else None,
                "currency": obj["currency"].upper() if money else None,
                "exponent": exponent if money else None,
                "charge_id": obj["id"] if kind == "charge" else obj.get("charge"),
                "object": kind,
                "object_id": obj["id"],
                "occurred_unix": ev["created"],
                "order_id": metadata.get("order_id"),
                "payment_id": payment if kind != "customer" else None,
                "signed_unix": t,
                "status": obj.get("status"),
                "tollgate_type": tollgate_type,
                "user_id": metadata.get("user_id"),
            },
        }
        if secrets:
            v["secrets"] = secrets
        out.append(v)

    # life of a payment
    add(
        "payment_intent_created",
        event(
            1,
            "payment_intent.created",
            payment_intent(1, status="requires_payment_method", latest_charge=None, payment_method=None),
            created=BASE,
        ),
        None,
        "amount",
    )
    add(
        "payment_intent_processing_compact",
        event(
            2,
            "payment_intent.processing",
            payment_intent(
                2,
                status="processing",
                capture_method="automatic",
                payment_method_types=["sepa_debit"],
                payment_method_options={"sepa_debit": {}},
            ),
            created=BASE + 1,
            own_request=False,
        ),
        "payment.pending",
        "amount",
        style=compact,
    )
    add(
        "payment_intent_amount_capturable_updated",
        event(
            3,
            "payment_intent.amount_capturable_updated",
            payment_intent(3, status="requires_capture", capture_method="manual", amount=25000, amount_capturable=25000),
            created=BASE + 2,
        ),
        "payment.authorized",
        "amount_capturable",
        style=tabs,
    )
    add(
        "payment_intent_succeeded",
        event(4, "payment_intent.succeeded", payment_intent(4, amount_received=1999), created=BASE + 3),
        "payment.captured",
        "amount_received",
    )
    add(
        "payment_intent_succeeded_partial_capture_api_2024",
        event(
            5,
            "payment_intent.succeeded",
            payment_intent(5, capture_method="manual", amount=25000, amount_received=18050),
            created=BASE + 4,
            api_version="2024-06-20",
        ),
        "payment.captured",
        "amount_received",
        style=slashes,
    )
    add(
        "payment_intent_payment_failed",
        event(
            6,
            "payment_intent.payment_failed",
            payment_intent(
                6, status="requires_payment_method", payment_method=None, last_payment_error=card_error(6)
            ),
            created=BASE + 5,
        ),
        "payment.failed",
        "amount",
        style=airy,
    )
    add(
        "payment_intent_canceled",
        event(
            7,
            "payment_intent.canceled",
            payment_intent(
                7, status="canceled", canceled_at=BASE + 6, cancellation_reason="requested_by_customer", latest_charge=None
            ),
            created=BASE + 6,
        ),
        "payment.cancelled",
        "amount",
        style=crlf,
    )
    add(
        "payment_intent_succeeded_key_order_reversed",
        event(8, "payment_intent.succeeded", payment_intent(8, amount_received=1999), created=BASE + 7),
        "payment.captured",
        "amount_received",
        style=backwards,
    )
    add(
        "payment_intent_succeeded_ascii_escapes",
        event(
            9,
            "payment_intent.succeeded",
            payment_intent(
                9,
                amount_received=1999,
                description="caf\u00e9 \U0001f6d2 \u65e5\u672c\u8a9e \u2028 \"quoted\" back\\slash / tab\t",
                metadata={"order_id": "A-1009-\u00dc\U0001f4e6", "user_id": "u-9 \"x\""},
            ),
            created=BASE + 8,
        ),
        "payment.captured",
        "amount_received",
        style=escaped,
    )
    add(
        "payment_intent_succeeded_raw_unicode_line_separators",
        event(
            10,
            "payment_intent.succeeded",
            payment_intent(
                10,
                amount_received=1999,
                description="line\u2028separator, paragraph\u2029separator, e\u0301 (combining), \u202eright to left\u202c, \ufeffBOM inside, \u007f",
                metadata={"order_id": "A-1010\u00a0e\u0301", "user_id": "u-10", "user.id": "other", "": "empty key"},
            ),
            created=BASE + 9,
        ),
        "payment.captured",
        "amount_received",
        style=compact,
    )
    add(
        "payment_intent_succeeded_escaped_key_names",
        event(11, "payment_intent.succeeded", payment_intent(11, amount_received=1999), created=BASE + 10),
        "payment.captured",
        "amount_received",
        style=escaped_keys,
    )
    # currencies
    add(
        "payment_intent_succeeded_jpy_zero_decimal",
        event(
            12,
            "payment_intent.succeeded",
            payment_intent(12, amount=1500, amount_received=1500, currency="jpy", description="注文 A-1012"),
            created=BASE + 11,
        ),
        "payment.captured",
        "amount_received",
        exponent=0,
    )
    add(
        "payment_intent_succeeded_kwd_three_decimal",
        event(
            13,
            "payment_intent.succeeded",
            payment_intent(13, amount=12340, amount_received=12340, currency="kwd", description="طلب A-1013"),
            created=BASE + 12,
        ),
        "payment.captured",
        "amount_received",
        exponent=3,
    )
    add(
        "payment_intent_succeeded_usd_large_amount",
        event(
            14,
            "payment_intent.succeeded",
            payment_intent(14, amount=99999999, amount_received=99999999, currency="usd"),
            created=BASE + 13,
        ),
        "payment.captured",
        "amount_received",
    )
    # Connect, metadata
    add(
        "payment_intent_succeeded_connect_account",
        event(
            15,
            "payment_intent.succeeded",
            payment_intent(
                15,
                amount_received=1999,
                application=sid("ca", 1),
                application_fee_amount=200,
                on_behalf_of=None,
                transfer_group="group_A-1015",
            ),
            created=BASE + 14,
            account="acct_1FAKEtollgate0001",
        ),
        "payment.captured",
        "amount_received",
        secret=STRIPE_C,
    )
    add(
        "payment_intent_succeeded_no_metadata",
        event(16, "payment_intent.succeeded", payment_intent(16, amount_received=1999, metadata={}), created=BASE + 15),
        "payment.captured",
        "amount_received",
    )
    # charges and refunds
    add(
        "charge_refunded_partial",
        event(
            17,
            "charge.refunded",
            charge(4, amount_refunded=500),
            created=BASE + 16,
            previous={"amount_refunded": 0, "receipt_url": None},
        ),
        "refund.succeeded",
        "amount_refunded",
        cumulative=True,
    )
    add(
        "charge_refunded_full_cumulative",
        event(
            18,
            "charge.refunded",
            charge(4, amount_refunded=1999, refunded=True),
            created=BASE + 17,
            previous={"amount_refunded": 500, "refunded": False},
        ),
        "refund.succeeded",
        "amount_refunded",
        style=compact,
        cumulative=True,
    )
    add(
        "charge_refunded_without_payment_intent",
        event(
            19,
            "charge.refunded",
            charge(19, payment_intent=None, amount_refunded=1999, refunded=True, customer=None),
            created=BASE + 18,
            previous={"amount_refunded": 0, "refunded": False},
        ),
        "refund.succeeded",
        "amount_refunded",
        style=escaped,
        cumulative=True,
    )
    add(
        "charge_expired",
        event(
            20,
            "charge.expired",
            charge(
                20,
                amount_captured=0,
                amount_refunded=1999,
                balance_transaction=None,
                captured=False,
                refunded=True,
            ),
            created=BASE + 19,
            own_request=False,
        ),
        "payment.expired",
        "amount",
    )
    add(
        "refund_created_pending",
        event(
            21,
            "refund.created",
            refund(1, 2, status="pending", pending_reason="processing", balance_transaction=None),
            created=BASE + 20,
        ),
        "refund.pending",
        "amount",
    )
    add(
        "refund_created_succeeded",
        event(22, "refund.created", refund(2, 4), created=BASE + 21),
        "refund.succeeded",
        "amount",
        style=slashes,
    )
    add(
        "refund_updated_succeeded",
        event(
            23,
            "refund.updated",
            refund(
                1,
                2,
                destination_details={
                    "card": {
                        "reference": "74000006328000000000001",
                        "reference_status": "available",
                        "reference_type": "acquirer_reference_number",
                        "type": "refund",
                    },
                    "type": "card",
                },
            ),
            created=BASE + 22,
            previous={"status": "pending"},
            own_request=False,
        ),
        "refund.succeeded",
        "amount",
        style=airy,
    )
    add(
        "refund_updated_requires_action",
        event(
            24,
            "refund.updated",
            refund(
                3,
                12,
                amount=700,
                currency="jpy",
                status="requires_action",
                instructions_email="zoe.mueller@example.com",
                next_action={
                    "display_details": {
                        "email_sent": {"email_sent_at": BASE, "email_sent_to": "zoe.mueller@example.com"},
                        "expires_at": BASE + 86400,
                    },
                    "type": "display_details",
                },
                destination_details={"jp_bank_transfer": {"reference": None, "reference_status": "pending"}, "type": "jp_bank_transfer"},
            ),
            created=BASE + 23,
        ),
        "refund.pending",
        "amount",
        exponent=0,
    )
    add(
        "refund_failed",
        event(
            25,
            "refund.failed",
            refund(
                2,
                4,
                status="failed",
                failure_reason="lost_or_stolen_card",
                failure_balance_transaction=sid("txn", 302),
                metadata={"order_id": "not-the-payment's", "note": "own metadata"},
            ),
            created=BASE + 24,
            own_request=False,
        ),
        "refund.failed",
        "amount",
        style=tabs,
    )
    add(
        "refund_updated_canceled",
        event(
            26,
            "refund.updated",
            refund(4, 5, status="canceled", charge=None),
            created=BASE + 25,
            previous={"status": "requires_action"},
        ),
        "refund.failed",
        "amount",
    )
    # disputes
    add(
        "charge_dispute_created",
        event(27, "charge.dispute.created", dispute(1, 8), created=BASE + 26, own_request=False),
        "dispute.opened",
        "amount",
    )
    closed = {
        "due_by": None,
        "enhanced_eligibility": {},
        "has_evidence": True,
        "past_due": False,
        "submission_count": 1,
        "submission_method": "manual",
    }
    won = dispute(1, 8, status="won", evidence_details=closed)
    won["balance_transactions"].append(
        balance_transaction(401, 1999, -1500, "eur", sid("du", 1), "dispute_reversal", "adjustment")
    )
    add(
        "charge_dispute_closed_won",
        event(28, "charge.dispute.closed", won, created=BASE + 27, own_request=False),
        "dispute.won",
        "amount",
        style=escaped,
    )
    add(
        "charge_dispute_closed_lost",
        event(
            29,
            "charge.dispute.closed",
            dispute(2, 9, status="lost", amount=1000, evidence_details=closed),
            created=BASE + 28,
            own_request=False,
        ),
        "dispute.lost",
        "amount",
    )
    # What is left of the documented types; amounts that are read differ from those that are not.
    uncaptured = {"captured": False, "amount_captured": 0, "balance_transaction": None}
    for n, (kind, obj, meaning, field) in enumerate(
        [
            ("payment_intent.requires_action", payment_intent(30, status="requires_action", latest_charge=None), None, "amount"),
            ("payment_intent.partially_funded", payment_intent(31, status="requires_action", latest_charge=None), None, "amount"),
            ("charge.pending", charge(32, status="pending", paid=False, **uncaptured), "payment.pending", "amount"),
            ("charge.succeeded", charge(33, **uncaptured), "payment.authorized", "amount"),
            ("charge.succeeded", charge(34, amount_captured=1800), "payment.captured", "amount_captured"),
            ("charge.captured", charge(33, amount_captured=1200), "payment.captured", "amount_captured"),
            ("charge.failed", charge(35, status="failed", paid=False, **uncaptured), "payment.failed", "amount"),
            ("charge.updated", charge(34), None, "amount"),
            ("charge.refund.updated", refund(5, 34, status="failed", failure_reason="unknown"), "refund.failed", "amount"),
            ("charge.dispute.updated", dispute(4, 34, status="under_review"), "dispute.opened", "amount"),
            ("charge.dispute.funds_withdrawn", dispute(4, 34), "dispute.opened", "amount"),
            ("charge.dispute.funds_reinstated", dispute(4, 34, status="won"), "dispute.won", "amount"),
        ]
    ):
        name = f"{kind.replace('.', '_')}_{obj['status']}" + ("_uncaptured" if obj.get("captured") is False else "")
        add(name, event(60 + n, kind, obj, created=BASE + 60 + n), meaning, field)
    inquiry = dispute(3, 10, status="warning_closed", evidence_details=closed, balance_transactions=[], is_charge_refundable=True)
    inquiry["payment_method_details"]["card"]["case_type"] = "inquiry"
    add(
        "charge_dispute_closed_warning_closed",
        event(30, "charge.dispute.closed", inquiry, created=BASE + 29, own_request=False),
        "dispute.won",
        "amount",
        style=compact,
    )
    # no payment in it
    add("customer_created", event(31, "customer.created", customer(1), created=BASE + 30), None, None)
    # times and rotation
    ev = event(32, "payment_intent.succeeded", payment_intent(32, amount_received=1999), created=BASE + 31)
    add("signed_exactly_300_seconds_ago", ev, "payment.captured", "amount_received", now_after=300)
    add("signed_by_a_clock_30_seconds_ahead", ev, "payment.captured", "amount_received", now_after=-30)
    add("retried_three_days_later_with_a_new_signature", ev, "payment.captured", "amount_received", sent_after=259200)

    def both(t, body):
        return f"t={t},v1={stripe_sig(t, body, STRIPE_A)},v1={stripe_sig(t, body, STRIPE_B)}"

    for label, secret in (("old", STRIPE_A), ("new", STRIPE_B)):
        add(
            f"rotation_two_v1_checked_with_{label}_secret",
            ev,
            "payment.captured",
            "amount_received",
            secret=secret,
            sign=both,
            secrets=[STRIPE_A, STRIPE_B],
        )
    add(
        "v1_and_v0_schemes_together",
        ev,
        "payment.captured",
        "amount_received",
        sign=lambda t, body: f"t={t},v1={stripe_sig(t, body, STRIPE_A)},v0={'0' * 64}",
    )
    add(
        "signature_before_timestamp_in_header",
        ev,
        "payment.captured",
        "amount_received",
        sign=lambda t, body: f"v0={'0' * 64},v1={'f' * 64},v1={stripe_sig(t, body, STRIPE_A)},t={t}",
    )
    return out


# ---------------------------------------------------------------- Adyen

MERCHANT = "TollgateShopECOM"


def psp(n):
    """Sixteen characters, as Adyen's."""
    return f"FAKE{n:012d}"


def adyen_item(code, n, **over):
    """One NotificationRequestItem, not signed yet. `None` for a field takes it out."""
    o = {
        "additionalData": {},
        "amount": {"currency": "EUR", "value": 1999},
        "eventCode": code,
        "eventDate": "2026-11-24T11:00:00+01:00",
        "merchantAccountCode": MERCHANT,
        "merchantReference": f"A-{1000 + n}",
        "originalReference": "",
        "paymentMethod": "visa",
        "pspReference": psp(n),
        "reason": "",
        "success": "true",
    }
    extra = over.pop("additional", None)
    o.update(over)
    for k in [k for k, v in o.items() if v is None]:
        del o[k]
    if extra:
        o["additionalData"].update(extra)
    return o


def authorisation(n, **over):
    extra = {
        "authCode": "1234",
        "avsResult": "4 AVS not supported for this card type",
        "cardBin": "411111",
        "cardHolderName": "Zoë Müller",
        "cardPaymentMethod": "visa",
        "cardSummary": "1111",
        "cardIssuingBank": "Test Bank & Söhne",
        "cvcResult": "1 Matches",
        "expiryDate": "03/2030",
        "fundingSource": "CREDIT",
        "issuerCountry": "DE",
        "metadata.order_id": over.get("merchantReference") or f"A-{1000 + n}",
        "metadata.user_id": f"u-{n}",
        "paymentMethodVariant": "visa",
        "shopperReference": f"u-{n}",
        "threeDAuthenticated": "true",
        "threeDOffered": "true",
    }
    extra.update(over.pop("additional", {}))
    over.setdefault("operations", ["CANCEL", "CAPTURE", "REFUND"])
    over.setdefault("reason", "123456:1111:03/2030")
    return adyen_item("AUTHORISATION", n, additional=extra, **over)


def adyen_signed(item, key):
    item = copy.deepcopy(item)
    # The signature does not cover additionalData, and its place in it varies.
    item["additionalData"]["hmacSignature"] = generate_notification_sig(item, key).decode("ascii")
    return item


def adyen_request(items, key, live="false"):
    return {
        "live": live,
        "notificationItems": [{"NotificationRequestItem": adyen_signed(i, key)} for i in items],
    }


def adyen_headers():
    return {
        "content-type": "application/json; charset=utf-8",
        "user-agent": "Adyen HttpClient 1.0",
    }


def adyen_key(i):
    return f"{i['eventCode']}:{i['pspReference']}:{i['success']}"


def adyen_vectors():
    out = []

    def add(name, items, *, style=compact, key=ADYEN_A, live="false", alter=None, now=BASE + 60):
        """`items`: (item, tollgate type or None[, exponent]) tuples."""
        items = [t if len(t) == 3 else (*t, 2) for t in items]
        request = adyen_request([i for i, _, _ in items], key, live)
        if alter:
            alter(request)
        expected = []
        for wrapped, (_, kind, exponent) in zip(request["notificationItems"], items):
            i = wrapped["NotificationRequestItem"]
            expected.append(
                {
                    "provider_event_id": adyen_key(i),
                    "type": i["eventCode"],
                    "account": i["merchantAccountCode"],
                    "amount_minor": i["amount"]["value"],
                    "currency": i["amount"]["currency"],
                    "event_date": i["eventDate"],
                    "exponent": exponent,
                    "hmac_signature": i["additionalData"]["hmacSignature"],
                    "occurred_unix": int(datetime.fromisoformat(i["eventDate"]).timestamp()),
                    "order_id": i.get("merchantReference"),
                    "original_reference": i.get("originalReference"),
                    "psp_reference": i["pspReference"],
                    "reason": i.get("reason"),
                    "success": i["success"],
                    "tollgate_type": kind,
                    "user_id": i["additionalData"].get("metadata.user_id"),
                }
            )
        out.append(
            {
                "name": name,
                "provider": "adyen",
                "secret": key,
                "now_unix": now,
                "headers": adyen_headers(),
                "body": rendered(style, request),
                "expect": {
                    "provider_event_id": expected[0]["provider_event_id"],
                    "type": expected[0]["type"],
                    "items": expected,
                    "live": live,
                },
            }
        )

    def mod(code, n, original, **over):
        over.setdefault("merchantReference", f"A-{1000 + original}")
        return adyen_item(code, n, originalReference=psp(original), **over)

    add("authorisation_true", [(authorisation(1), "payment.authorized")])
    add(
        "authorisation_true_original_reference_absent",
        [(authorisation(2, originalReference=None), "payment.authorized")],
        style=pretty,
    )
    add(
        "authorisation_false_refused",
        [
            (
                authorisation(
                    3,
                    success="false",
                    reason="Not enough balance",
                    operations=None,
                    additional={"refusalReasonRaw": "51 : Insufficient funds/over credit limit"},
                ),
                "payment.failed",
            )
        ],
        style=airy,
    )
    add(
        "authorisation_true_stored_card_live",
        [(authorisation(4, additional={"recurring.recurringDetailReference": psp(904), "recurringProcessingModel": "CardOnFile"}), "payment.authorized")],
        live="true",
        key=ADYEN_B,
        style=tabs,
    )
    add(
        "authorisation_true_ascii_escapes",
        [(authorisation(5, merchantReference="A-1005-\u00dc\u65e5\U0001f4e6"), "payment.authorized")],
        style=escaped,
    )
    add(
        "authorisation_true_raw_unicode",
        [(authorisation(5, merchantReference="A-1005-\u00dc\u65e5\U0001f4e6"), "payment.authorized")],
        style=crlf,
    )
    add(
        "authorisation_true_colon_and_backslash_in_reference",
        [(authorisation(6, merchantReference="shop:A\\1006:x\\:y\\\\"), "payment.authorized")],
        style=compact,
    )
    add(
        "authorisation_true_slash_and_quote_in_reference",
        [(authorisation(7, merchantReference="2026/11/A-1007 \"gift\" 100%"), "payment.authorized")],
        style=slashes,
    )
    add(
        "authorisation_true_empty_reference",
        [(authorisation(8, merchantReference="", additional={"metadata.order_id": "A-1008"}), "payment.authorized")],
    )
    add(
        "authorisation_true_escaped_key_names",
        [(authorisation(9), "payment.authorized")],
        style=escaped_keys,
    )
    add(
        "authorisation_true_key_order_reversed_lower_case_key",
        [(authorisation(10), "payment.authorized")],
        style=backwards,
        key=ADYEN_LOWER,
    )
    add(
        "authorisation_true_zero_amount",
        [(authorisation(11, amount={"currency": "EUR", "value": 0}), "payment.authorized")],
    )
    add(
        "authorisation_true_jpy",
        [(authorisation(12, amount={"currency": "JPY", "value": 1500}), "payment.authorized", 0)],
    )
    add(
        "authorisation_true_kwd",
        [(authorisation(13, amount={"value": 12345, "currency": "KWD"}), "payment.authorized", 3)],
    )
    add(
        "authorisation_true_clp_two_decimals_at_adyen",
        [(authorisation(14, amount={"currency": "CLP", "value": 1999000}), "payment.authorized", 2)],
    )
    add("capture_true", [(mod("CAPTURE", 101, 1), "payment.captured")], style=pretty)
    add(
        "capture_true_partial",
        [(mod("CAPTURE", 102, 2, amount={"currency": "EUR", "value": 500}), "payment.captured")],
    )
    add(
        "capture_false",
        # The request failed, and the payment stays what it was.
        [(mod("CAPTURE", 103, 4, success="false", reason="Insufficient balance on payment"), None)],
    )
    add(
        "capture_failed",
        [(mod("CAPTURE_FAILED", 101, 1, reason="Capture Failed"), "payment.capture_failed")],
        style=tabs,
    )
    add(
        "refund_true",
        [
            (
                mod(
                    "REFUND",
                    104,
                    1,
                    amount={"currency": "EUR", "value": 700},
                    additional={"bookingDate": "2026-11-24T10:00:00Z", "acquirerReferenceNumber": "74000006328000000000001"},
                ),
                "refund.succeeded",
            )
        ],
    )
    add(
        "refund_true_own_merchant_reference",
        [(mod("REFUND", 105, 2, merchantReference="refund-77:A-1002", amount={"currency": "EUR", "value": 500}), "refund.succeeded")],
        style=airy,
    )
    add(
        "refund_false",
        [(mod("REFUND", 106, 4, success="false", reason="Insufficient balance on payment"), "refund.failed")],
    )
    add(
        "refund_failed",
        [(mod("REFUND_FAILED", 104, 1, amount={"currency": "EUR", "value": 700}, reason="Account is closed"), "refund.failed")],
        style=slashes,
    )
    add(
        "refunded_reversed",
        [(mod("REFUNDED_REVERSED", 105, 2, amount={"currency": "EUR", "value": 500}), "refund.failed")],
    )
    add("cancellation_true", [(mod("CANCELLATION", 107, 5), "payment.cancelled")])
    add(
        "cancellation_false",
        [(mod("CANCELLATION", 108, 6, success="false", reason="Transaction not found"), None)],
    )
    add(
        "cancel_or_refund_cancel",
        [(mod("CANCEL_OR_REFUND", 109, 7, additional={"modification.action": "cancel"}), "payment.cancelled")],
    )
    add(
        "cancel_or_refund_refund",
        [(mod("CANCEL_OR_REFUND", 110, 8, additional={"modification.action": "refund"}), "refund.succeeded")],
        style=escaped,
    )
    add(
        "technical_cancel_true",
        [(adyen_item("TECHNICAL_CANCEL", 111, merchantReference="A-1009", originalReference=psp(9)), "payment.cancelled")],
    )
    add("expire", [(adyen_item("EXPIRE", 10, originalReference=None), "payment.expired")])
    add(
        "offer_closed",
        [(adyen_item("OFFER_CLOSED", 15, paymentMethod="ideal", originalReference=None), "payment.expired")],
    )
    chargeback = {
        "chargebackReasonCode": "10.4",
        "chargebackSchemeCode": "visa",
        "defensePeriodEndsAt": "2026-12-12T11:00:00+01:00",
        "defendable": "true",
        "disputeStatus": "Undefended",
        "modificationMerchantReferences": "",
    }
    add(
        "notification_of_chargeback",
        [(mod("NOTIFICATION_OF_CHARGEBACK", 112, 1, reason="Other Fraud-Card Absent Environment", additional=chargeback), "dispute.opened")],
        style=pretty,
    )
    add(
        "chargeback",
        [(mod("CHARGEBACK", 112, 1, reason="Other Fraud-Card Absent Environment", additional=chargeback), "dispute.opened")],
    )
    add(
        "chargeback_reversed_without_original_reference",
        [
            (
                adyen_item(
                    "CHARGEBACK_REVERSED",
                    112,
                    merchantReference="A-1001",
                    originalReference=None,
                    additional={**chargeback, "disputeStatus": "Pending"},
                ),
                "dispute.won",
            )
        ],
    )
    add(
        "chargeback_reversed_with_original_reference",
        [(mod("CHARGEBACK_REVERSED", 113, 2, additional={**chargeback, "disputeStatus": "Pending"}), "dispute.won")],
    )
    add(
        "second_chargeback",
        [(mod("SECOND_CHARGEBACK", 113, 2, additional={**chargeback, "disputeStatus": "Lost"}), "dispute.lost")],
    )
    # What is left of the documented codes.
    for n, (code, kind) in enumerate(
        [
            ("PENDING", "payment.pending"),
            ("AUTHORISATION_ADJUSTMENT", "payment.authorized"),
            ("POSTPONED_REFUND", "refund.pending"),
            ("VOID_PENDING_REFUND", "refund.failed"),
            ("REQUEST_FOR_INFORMATION", "dispute.opened"),
            ("PREARBITRATION_OPEN", "dispute.opened"),
            ("SCHEME_ARBITRATION", "dispute.opened"),
            ("PREARBITRATION_WON", "dispute.won"),
            ("SCHEME_ARBITRATION_WON", "dispute.won"),
            ("ISSUER_RESPONSE_TIMEFRAME_EXPIRED", "dispute.won"),
            ("PREARBITRATION_LOST", "dispute.lost"),
            ("SCHEME_ARBITRATION_LOST", "dispute.lost"),
            ("DISPUTE_DEFENSE_PERIOD_ENDED", "dispute.lost"),
            ("RECURRING_CONTRACT", None),
            ("ORDER_OPENED", None),
            ("ORDER_CLOSED", None),
            ("AUTORESCUE", None),
            ("CANCEL_AUTORESCUE", None),
            ("MANUAL_REVIEW_ACCEPT", None),
            ("NOTIFICATION_OF_FRAUD", None),
            ("INFORMATION_SUPPLIED", None),
            ("ISSUER_COMMENTS", None),
            ("PAYOUT_THIRDPARTY", None),
        ]
    ):
        add(code.lower(), [(mod(code, 120 + n, 2), kind)])
        if code in ("AUTHORISATION_ADJUSTMENT", "POSTPONED_REFUND", "VOID_PENDING_REFUND"):
            add(f"{code.lower()}_false", [(mod(code, 120 + n, 2, success="false", reason="Refused"), None)])
    for success, kind in [("true", "refund.succeeded"), ("false", "refund.failed")]:
        item = adyen_item("REFUND_WITH_DATA", 150, originalReference=None, success=success)
        add(f"refund_with_data_{success}", [(item, kind)])
    add(
        "report_available",
        [
            (
                adyen_item(
                    "REPORT_AVAILABLE",
                    0,
                    amount={"currency": "EUR", "value": 0},
                    merchantReference="",
                    paymentMethod=None,
                    pspReference="settlement_detail_report_batch_42.csv",
                    reason="https://ca-test.adyen.com/reports/download/MerchantAccount/TollgateShopECOM/settlement_detail_report_batch_42.csv",
                ),
                None,
            )
        ],
        style=slashes,
    )
    add(
        "several_items_in_one_request",
        [
            (authorisation(16), "payment.authorized"),
            (mod("CAPTURE", 114, 16), "payment.captured"),
            (mod("REFUND", 115, 16, amount={"currency": "EUR", "value": 1}), "refund.succeeded"),
            (authorisation(17, success="false", reason="Refused", operations=None), "payment.failed"),
        ],
        style=pretty,
    )
    add(
        "several_items_of_two_merchant_accounts",
        [
            (authorisation(18, merchantAccountCode="TollgateShopPOS"), "payment.authorized"),
            (authorisation(18, merchantAccountCode="TollgateShopECOM"), "payment.authorized"),
        ],
    )

    def change_unsigned(request):
        i = request["notificationItems"][0]["NotificationRequestItem"]
        i["reason"] = "changed after the signature"
        i["eventDate"] = "2026-11-23T08:30:00-05:00"
        i["additionalData"]["metadata.user_id"] = "u-changed"

    add(
        "unsigned_fields_changed_after_signing_still_valid",
        [(authorisation(19), "payment.authorized")],
        alter=change_unsigned,
    )
    add(
        "no_time_limit_one_year_later",
        [(authorisation(20), "payment.authorized")],
        now=BASE + 365 * 86400,
    )
    return out


# ---------------------------------------------------------------- Standard Webhooks


def sw_sign(secret, msg_id, ts, body):
    return StandardWebhook(secret).sign(msg_id, datetime.fromtimestamp(ts, tz=timezone.utc), body)


def sw_headers(msg_id, ts, signature):
    return {
        "content-type": "application/json",
        "webhook-id": msg_id,
        "webhook-signature": signature,
        "webhook-timestamp": str(ts),
    }


def own_event(kind, n, **data):
    prefix = {"payment": "pay", "refund": "ref", "dispute": "dis"}[kind.split(".")[0]]
    transaction = {
        "payment.captured": "cap",
        "payment.capture_failed": "cap",
        "payment.authorized": "auth",
    }.get(kind, prefix)
    d = {
        "payment_id": f"pay_{n}",
        "order_id": f"A-{1000 + n}",
        "user_id": f"u-{n}",
        "amount": 1999,
        "currency": "EUR",
        "transaction_id": f"{transaction}_{n}",
        "account": "shop-eu",
    }
    when = data.pop("timestamp", "2026-11-24T10:00:00Z")
    d.update(data)
    return {"type": kind, "timestamp": when, "data": d}


def sw_vectors():
    out = []

    def add(name, ev, minor, *, msg_id=None, style=compact, secret=SW_PAD, age=2, exponent=2, sign=None, secrets=None):
        n = len(out) + 1
        msg_id = msg_id or f"msg_FAKE{n:020d}"
        ts = BASE + n
        body = rendered(style, ev)
        signature = sign(msg_id, ts, body) if sign else sw_sign(secret, msg_id, ts, body)
        d = ev["data"]
        v = {
            "name": name,
            "provider": "standard_webhooks",
            "secret": secret,
            "now_unix": ts + age,
            "headers": sw_headers(msg_id, ts, signature),
            "body": body,
            "expect": {
                "provider_event_id": msg_id,
                "type": ev["type"],
                "account": d["account"],
                "amount_as_sent": d["amount"],
                "amount_minor": minor,
                "currency": d["currency"],
                "exponent": exponent,
                "occurred_unix": int(datetime.fromisoformat(ev["timestamp"]).timestamp()),
                "order_id": d["order_id"],
                "payment_id": d["payment_id"],
                "signed_unix": ts,
                "timestamp": ev["timestamp"],
                "tollgate_type": ev["type"],
                "transaction_id": d["transaction_id"],
                "user_id": d["user_id"],
            },
        }
        if secrets:
            v["secrets"] = secrets
        out.append(v)

    styles = [compact, pretty, escaped, airy, crlf, tabs, slashes, backwards, escaped_keys]
    kinds = [
        "payment.pending",
        "payment.authorized",
        "payment.captured",
        "payment.capture_failed",
        "payment.failed",
        "payment.cancelled",
        "payment.expired",
        "refund.pending",
        "refund.succeeded",
        "refund.failed",
        "dispute.opened",
        "dispute.won",
        "dispute.lost",
    ]
    # each type with an integer, then with a decimal string
    for k, kind in enumerate(kinds):
        add(kind.replace(".", "_") + "_minor_units", own_event(kind, k + 1), 1999, style=styles[k % len(styles)])
    for k, kind in enumerate(kinds):
        add(
            kind.replace(".", "_") + "_decimal_string",
            own_event(kind, k + 21, amount="19.99"),
            1999,
            style=styles[(k + 4) % len(styles)],
            secret=SW_NEW,
        )
    captured = "payment.captured"
    add("captured_jpy_decimal_string", own_event(captured, 41, amount="1500", currency="JPY"), 1500, exponent=0)
    add("captured_jpy_minor_units", own_event(captured, 42, amount=1500, currency="JPY"), 1500, exponent=0)
    add("captured_kwd_decimal_string", own_event(captured, 43, amount="12.345", currency="KWD"), 12345, exponent=3)
    add("captured_whole_decimal_string", own_event(captured, 44, amount="20"), 2000)
    add("captured_one_decimal_string", own_event(captured, 45, amount="20.5"), 2050)
    add("captured_cents_only_decimal_string", own_event(captured, 46, amount="0.01"), 1)
    add(
        "captured_beyond_2_53_minor_units",
        own_event(captured, 47, amount=9007199254740993),
        9007199254740993,
    )
    add(
        "captured_unicode_ids_raw",
        own_event(captured, 48, order_id="A-1048-\u00dc\u65e5\U0001f4e6", user_id="u-\u00e9|e\u0301\u2028\\\"/"),
        1999,
        style=pretty,
    )
    add(
        "captured_unicode_ids_escaped",
        own_event(captured, 49, order_id="A-1048-\u00dc\u65e5\U0001f4e6", user_id="u-\u00e9|e\u0301\u2028\\\"/"),
        1999,
        style=escaped,
    )
    add(
        "captured_timestamp_with_offset_and_fraction",
        own_event(captured, 50, timestamp="2026-11-24T11:00:00.250+01:00"),
        1999,
    )
    add(
        "captured_unknown_fields_kept_apart",
        own_event(captured, 51, note="new field", nested={"amount": 1, "type": "payment.failed"}, list=[1, 2, {}]),
        1999,
        style=slashes,
    )
    add(
        "id_with_a_full_stop",
        own_event(captured, 52),
        1999,
        msg_id="msg.FAKE.with.stops",
    )

    def old_and_new(msg_id, ts, body):
        return sw_sign(SW_OLD, msg_id, ts, body) + " " + sw_sign(SW_NEW, msg_id, ts, body)

    for label, secret in (("old", SW_OLD), ("new", SW_NEW)):
        add(
            f"rotation_two_signatures_checked_with_{label}_secret",
            own_event(captured, 53),
            1999,
            msg_id="msg_FAKErotation",
            secret=secret,
            sign=old_and_new,
            secrets=[SW_OLD, SW_NEW],
        )
    other_scheme = "v1a," + base64.b64encode(bytes(range(64))).decode()
    add(
        "asymmetric_signature_first_then_v1",
        own_event(captured, 54),
        1999,
        sign=lambda i, ts, body: other_scheme + " " + sw_sign(SW_PAD, i, ts, body),
    )
    add("signed_exactly_300_seconds_ago", own_event(captured, 55), 1999, age=300)
    add("signed_by_a_clock_exactly_300_seconds_ahead", own_event(captured, 56), 1999, age=-300)
    return out


# ---------------------------------------------------------------- refused


def refused_vectors():
    out = []

    def add(provider, name, reason, secret, headers, body, now):
        v = {
            "name": f"{provider}_{name}",
            "provider": provider,
            "secret": secret,
            "now_unix": now,
            "headers": headers,
            "body": body,
            "expect": {"refused": True, "reason": reason},
        }
        accepted, said = verdict(v)
        assert not accepted, v["name"]
        v["expect"]["official"] = said
        out.append(v)

    # Stripe
    t, now = BASE + 2, BASE + 3
    ev = event(901, "payment_intent.succeeded", payment_intent(901, amount_received=1999), created=BASE)
    body = rendered(pretty, ev)
    good = stripe_sig(t, body, STRIPE_A)

    def st(name, reason, header, body=body, now=now, secret=STRIPE_A):
        headers = stripe_headers(header)
        if header is None:
            del headers["stripe-signature"]
        add("stripe", name, reason, secret, headers, body, now)

    st("wrong_secret", "signature_mismatch", f"t={t},v1={stripe_sig(t, body, STRIPE_B)}")
    st(
        "secret_decoded_from_base64_before_use",
        "signature_mismatch",
        "t=%d,v1=%s" % (t, stripe_sig(t, body, "fake stripe secret C, not real")),
        secret=STRIPE_C,
    )
    st("secret_without_its_prefix", "signature_mismatch", f"t={t},v1={stripe_sig(t, body, STRIPE_A[6:])}")
    st("expired_301_seconds", "too_old", f"t={t},v1={good}", now=t + 301)
    st("expired_one_day", "too_old", f"t={t},v1={good}", now=t + 86400)
    st("timestamp_moved_without_signing_again", "signature_mismatch", f"t={t + 1000},v1={good}", now=t + 1001)
    st(
        "tampered_amount",
        "signature_mismatch",
        f"t={t},v1={good}",
        body=body.replace('"amount_received": 1999', '"amount_received": 1'),
    )
    st("body_written_again_compact", "signature_mismatch", f"t={t},v1={good}", body=rendered(compact, ev))
    st("body_with_newline_added", "signature_mismatch", f"t={t},v1={good}", body=body + "\n")
    st("truncated_signature", "signature_mismatch", f"t={t},v1={good[:-2]}")
    st("empty_signature", "signature_mismatch", f"t={t},v1=")
    st("missing_header", "missing_header", None)
    st("empty_header", "missing_header", "")
    st("no_timestamp", "malformed_header", f"v1={good}")
    st("timestamp_not_a_number", "malformed_header", f"t=now,v1={good}")
    st("only_scheme_v0", "unknown_scheme", f"t={t},v0={good}")
    st("only_scheme_v2", "unknown_scheme", f"t={t},v2={good}")
    st("signature_of_the_body_without_timestamp", "signature_mismatch", f"t={t},v1=" + stripe.WebhookSignature._compute_signature(body, STRIPE_A))
    st(
        "two_v1_both_wrong",
        "signature_mismatch",
        f"t={t},v1={stripe_sig(t, body, STRIPE_B)},v1={'0' * 64}",
    )

    # Adyen
    def ad(name, reason, change=None, key=ADYEN_A, signed_with=ADYEN_A, items=None, style=compact):
        request = adyen_request(items or [authorisation(902)], signed_with)
        if change:
            change([w["NotificationRequestItem"] for w in request["notificationItems"]])
        add("adyen", name, reason, key, adyen_headers(), rendered(style, request), BASE + 60)

    def setter(n, *path):
        *way, last, value = path

        def change(items):
            o = items[n]
            for k in way:
                o = o[k]
            o[last] = value(o[last]) if callable(value) else value

        return change

    ad("wrong_key", "signature_mismatch", signed_with=ADYEN_B)
    ad("tampered_amount", "signature_mismatch", setter(0, "amount", "value", 1))
    ad("tampered_currency", "signature_mismatch", setter(0, "amount", "currency", "JPY"))
    ad("tampered_merchant_reference", "signature_mismatch", setter(0, "merchantReference", "A-1"))
    ad(
        "refusal_turned_into_success",
        "signature_mismatch",
        setter(0, "success", "true"),
        items=[authorisation(903, success="false", reason="Refused")],
    )
    ad("tampered_event_code", "signature_mismatch", setter(0, "eventCode", "CAPTURE"))
    ad("original_reference_added", "signature_mismatch", setter(0, "originalReference", psp(1)))
    ad("truncated_signature", "signature_mismatch", setter(0, "additionalData", "hmacSignature", lambda s: s[:-4]))
    ad("empty_signature", "missing_signature", setter(0, "additionalData", "hmacSignature", ""))

    def without_signature(items):
        del items[0]["additionalData"]["hmacSignature"]

    def without_additional_data(items):
        del items[0]["additionalData"]

    ad("missing_signature", "missing_signature", without_signature)
    ad("missing_additional_data", "missing_signature", without_additional_data)
    # The delimiter escaped, as in Adyen's older signature of key-value pairs: not what is signed.
    escaped_item = authorisation(904, merchantReference="shop\\:A\\\\1006")

    def unescape(items):
        items[0]["merchantReference"] = "shop:A\\1006"

    ad("signed_with_delimiters_escaped", "signature_mismatch", unescape, items=[escaped_item])
    ad(
        "second_of_two_items_tampered",
        "signature_mismatch",
        setter(1, "amount", "value", 1),
        items=[authorisation(905), authorisation(906)],
        style=pretty,
    )

    # Standard Webhooks
    msg, ts = "msg_FAKErefused", BASE + 5
    sbody = rendered(compact, own_event("payment.captured", 907))
    sgood = sw_sign(SW_PAD, msg, ts, sbody)

    def sw(name, reason, *, headers=None, body=sbody, now=ts + 1, secret=SW_PAD, drop=None):
        h = sw_headers(msg, ts, sgood)
        h.update(headers or {})
        if drop:
            del h[drop]
        add("standard_webhooks", name, reason, secret, h, body, now)

    sw("wrong_secret", "signature_mismatch", secret=SW_OTHER)
    sw(
        "secret_used_whole_not_decoded",
        "signature_mismatch",
        headers={
            "webhook-signature": StandardWebhook(SW_PAD.encode()).sign(
                msg, datetime.fromtimestamp(ts, tz=timezone.utc), sbody
            )
        },
    )
    sw("expired_301_seconds", "too_old", now=ts + 301)
    sw("from_301_seconds_in_the_future", "too_new", now=ts - 301)
    sw("tampered_amount", "signature_mismatch", body=sbody.replace('"amount":1999', '"amount":1'))
    sw("body_written_again_pretty", "signature_mismatch", body=json.dumps(json.loads(sbody), indent=2))
    sw("truncated_signature_valid_base64", "signature_mismatch", headers={"webhook-signature": sgood[:-4]})
    sw("truncated_signature_broken_base64", "malformed_header", headers={"webhook-signature": sgood[:-2]})
    sw("empty_signature_value", "signature_mismatch", headers={"webhook-signature": "v1,"})
    sw("signature_without_version", "malformed_header", headers={"webhook-signature": sgood[3:]})
    sw("wrong_version_v2", "unknown_scheme", headers={"webhook-signature": "v2" + sgood[2:]})
    sw("symmetric_signature_labelled_v1a", "unknown_scheme", headers={"webhook-signature": "v1a" + sgood[2:]})
    sw("missing_id", "missing_header", drop="webhook-id")
    sw("missing_timestamp", "missing_header", drop="webhook-timestamp")
    sw("missing_signature", "missing_header", drop="webhook-signature")
    sw("another_id", "signature_mismatch", headers={"webhook-id": "msg_FAKEother"})
    sw("timestamp_moved_without_signing_again", "signature_mismatch", headers={"webhook-timestamp": str(ts + 1)})
    sw("timestamp_not_a_number", "malformed_header", headers={"webhook-timestamp": "2026-11-24T10:00:05Z"})
    sw(
        "two_signatures_both_of_other_secrets",
        "signature_mismatch",
        headers={"webhook-signature": sw_sign(SW_OLD, msg, ts, sbody) + " " + sw_sign(SW_NEW, msg, ts, sbody)},
    )
    return out


# ---------------------------------------------------------------- output


def main():
    for package, wanted in PINNED.items():
        found = version(package)
        if found != wanted:
            sys.exit(f"{package} {found} is installed, these vectors need {wanted}")

    files = {
        "stripe.json": stripe_vectors(),
        "adyen.json": adyen_vectors(),
        "standard_webhooks.json": sw_vectors(),
        "refused.json": refused_vectors(),
    }
    for name, vectors in files.items():
        names = [v["name"] for v in vectors]
        assert len(set(names)) == len(names), name
        for v in vectors:
            assert all(h == h.lower() for h in v["headers"])
            if name != "refused.json":
                # with each secret of a rotation as well
                for secret in {v["secret"], *v.get("secrets", [])}:
                    accepted, said = verdict({**v, "secret": secret})
                    assert accepted, (v["name"], said)

    differs = False
    for name, vectors in files.items():
        text = json.dumps(vectors, indent=2, sort_keys=True, ensure_ascii=True) + "\n"
        path = os.path.join(HERE, name)
        if "--check" in sys.argv[1:]:
            with open(path, encoding="ascii", newline="") as f:
                same = f.read() == text
            differs |= not same
            print(f"{name}: {len(vectors)} vectors, {'same' if same else 'DIFFERENT'}")
        else:
            with open(path, "w", encoding="ascii", newline="") as f:
                f.write(text)
            print(f"{name}: {len(vectors)} vectors")
    sys.exit(1 if differs else 0)


if __name__ == "__main__":
    main()
