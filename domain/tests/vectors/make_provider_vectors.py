#!/usr/bin/env python3
"""Sign the events of ../events with the providers' own libraries, and check them with these.

Made with Python 3.11 and exactly the packages of PINNED. How to run it (from this folder):

    python3 -m venv .venv
    .venv/bin/pip install Adyen==16.0.0 braintree==4.48.0 cryptography==50.0.2 mollie-api-py==1.10.20 \\
        paypalrestsdk==1.13.3 pyOpenSSL==26.4.0 razorpay==2.0.1 squareup==46.0.0.20260916 standardwebhooks==1.1.0
    .venv/bin/python make_provider_vectors.py            # writes the *.json files
    .venv/bin/python make_provider_vectors.py --check    # only compares them

The output is deterministic. The secrets are made up for these files and have never belonged to any account. Nothing
here uses the network.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from urllib.parse import urlencode

import braintree
from Adyen.util import generate_payload_sig, is_valid_hmac_payload
from braintree.util.crypto import Crypto
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from mollie.utils.webhooks import SignatureValidator as MollieValidator
from OpenSSL.crypto import X509 as OpenSSLCertificate
from paypalrestsdk.notifications import WebhookEvent
from razorpay import Client as RazorpayClient
from square.utils.webhooks_helper import verify_signature as square_verify
from standardwebhooks.webhooks import Webhook as StandardWebhook

PINNED = {
    "Adyen": "16.0.0",
    "braintree": "4.48.0",
    "cryptography": "50.0.2",
    "mollie-api-py": "1.10.20",
    "paypalrestsdk": "1.13.3",
    "pyOpenSSL": "26.4.0",
    "razorpay": "2.0.1",
    "squareup": "46.0.0.20260916",
    "standardwebhooks": "1.1.0",
}

HERE = os.path.dirname(os.path.abspath(__file__))
# 2026-11-24T10:00:00Z
NOW = 1795514400


def pretty(o):
    return json.dumps(o, indent=2, ensure_ascii=False)


def compact(o):
    return json.dumps(o, separators=(",", ":"), ensure_ascii=False)


def escaped(o):
    return json.dumps(o, separators=(", ", ":"), ensure_ascii=True) + "\n"


STYLES = (compact, pretty, escaped)


def events(provider):
    """(name, headers, body as text) of each event, bodies in different styles; and the source's settings."""
    with open(os.path.join(HERE, "..", "events", provider + ".json"), encoding="utf-8") as f:
        file = json.load(f)
    out = []
    for n, of in enumerate(file["events"]):
        body = of["xml"] if "xml" in of else STYLES[n % len(STYLES)](of["body"])
        out.append((of["name"], dict(of.get("headers", {})), body))
    return out, file.get("source", {})


def vector(provider, name, secret, headers, signed, body, source):
    """`signed` are the headers that the signature is in or covers, `headers` the others."""
    media = "application/x-www-form-urlencoded" if provider == "braintree" else "application/json"
    headers = {"content-type": media, **headers, **signed}
    made = {"name": f"{provider}: {name}", "provider": provider, "now_unix": NOW, "headers": headers, "body": body}
    made["signed_headers"] = sorted(signed)
    made["secrets"] = secret if isinstance(secret, list) else [secret]
    if source:
        made["source"] = source
    return made


def hmac_sha256(key, text):
    return hmac.new(key.encode(), text.encode(), hashlib.sha256)


# ---------------------------------------------------------------- Square


def square():
    """`verify_signature` of squareup checks; it has no function that signs."""
    secret = "FAKE-square-signature-key"
    found, source = events("square")
    url = source["notification_url"]
    for name, headers, body in found:
        signature = base64.b64encode(hmac_sha256(secret, url + body).digest()).decode()
        assert square_verify(
            request_body=body, signature_header=signature, signature_key=secret, notification_url=url
        )
        assert not square_verify(
            request_body=body, signature_header=signature, signature_key=secret, notification_url=url + "/"
        )
        signed = {"x-square-hmacsha256-signature": signature}
        yield vector("square", name, secret, headers, signed, body, source)


# ---------------------------------------------------------------- Checkout.com


def checkout():
    """No library of Checkout.com verifies: signed as "Configure your webhook server" says."""
    secret = "FAKE-checkout-signature-key"
    found, source = events("checkout")
    for name, headers, body in found:
        signed = {"cko-signature": hmac_sha256(secret, body).hexdigest()}
        yield vector("checkout", name, secret, headers, signed, body, source)


# ---------------------------------------------------------------- Razorpay


def razorpay():
    """`verify_webhook_signature` of razorpay checks; it has no function that signs."""
    secret = "FAKE-razorpay-webhook-secret"
    client = RazorpayClient(auth=("rzp_test_FAKE", "FAKE"))
    found, source = events("razorpay")
    for name, headers, body in found:
        signature = hmac_sha256(secret, body).hexdigest()
        assert client.utility.verify_webhook_signature(body, signature, secret)
        signed = {"x-razorpay-signature": signature}
        yield vector("razorpay", name, secret, headers, signed, body, source)


# ---------------------------------------------------------------- Mollie


def mollie():
    """`SignatureValidator` of mollie-api-py signs and checks; some vectors have another signature before ours."""
    secret = "FAKE-mollie-signing-secret"
    found, source = events("mollie")
    for n, (name, headers, body) in enumerate(found):
        signature = "sha256=" + MollieValidator.create_signature(body, secret)
        assert MollieValidator(["another", secret]).validate_payload(body, ["sha256=" + "0" * 64, signature])
        if n % 2 and n > 2:
            signature = "sha256=" + MollieValidator.create_signature(body, "FAKE-old-secret") + "," + signature
        yield vector("mollie", name, secret, headers, {"x-mollie-signature": signature}, body, source)


# ---------------------------------------------------------------- PayPal


def prime(seed, bits):
    """A probable prime out of a seed: keys that are the same on every run, and are in no file."""
    stream = b"".join(hashlib.sha512(f"FAKE {seed} {n}".encode()).digest() for n in range(bits // 512))
    candidate = int.from_bytes(stream, "big") | 1 | (3 << (bits - 2))
    while any(candidate % small == 0 for small in (3, 5, 7, 11, 13, 17, 19, 23)) or candidate % 65537 == 1 or any(
        pow(base, candidate - 1, candidate) != 1 for base in (2, 3, 5, 7)
    ):
        candidate += 2
    return candidate


def rsa_key(seed, bits=2048):
    p, q = prime(seed + " p", bits // 2), prime(seed + " q", bits // 2)
    d = pow(65537, -1, (p - 1) * (q - 1))
    exponents = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    return rsa.RSAPrivateNumbers(p, q, d, *exponents, rsa.RSAPublicNumbers(65537, p * q)).private_key()


def certificate(key, host, first=(2026, 1, 1), last=(2027, 12, 31)):
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(datetime(*first)).not_valid_after(datetime(*last))
    return builder.sign(key, hashes.SHA256())


def pem(made):
    return made.public_bytes(serialization.Encoding.PEM).decode()


def paypal():
    """paypalrestsdk says what is signed and looks at the name; cryptography signs. The certificate is made here."""
    key = rsa_key("paypal")
    ours = certificate(key, "messageverificationcerts.paypal.com")
    assert WebhookEvent._is_common_name_valid(OpenSSLCertificate.from_cryptography(ours))
    found, source = events("paypal")
    for n, (name, headers, body) in enumerate(found):
        headers["paypal-cert-url"] = "https://api.paypal.com/v1/notifications/certs/CERT-FAKE-360caa42"
        signed = {
            "paypal-transmission-id": f"69cd13f0-0000-11f0-8000-{n:012}",
            "paypal-transmission-time": "2026-11-24T09:59:00Z",
            "paypal-auth-algo": "SHA256withRSA",
        }
        text = WebhookEvent._get_expected_sig(
            signed["paypal-transmission-id"], signed["paypal-transmission-time"], source["webhook_id"], body
        )
        signature = key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        signed["paypal-transmission-sig"] = base64.b64encode(signature).decode()
        yield vector("paypal", name, pem(ours), headers, signed, body, source)


def paypal_certificates():
    """Certificates that may not be configured, or are not valid when the vectors are checked."""
    key = rsa_key("paypal")
    other = certificate(key, "paypal.com.attacker.example")
    assert not WebhookEvent._is_common_name_valid(OpenSSLCertificate.from_cryptography(other))
    yield {"name": "another host", "pem": pem(other)}
    yield {"name": "a short key", "pem": pem(certificate(rsa_key("short", 1024), "api.paypal.com"))}
    yield {"name": "no certificate", "pem": "FAKE"}
    yield {"name": "expired", "pem": pem(certificate(key, "api.paypal.com", (2025, 1, 1), (2026, 11, 24)))}
    yield {"name": "not yet valid", "pem": pem(certificate(key, "api.paypal.com", (2026, 11, 25), (2027, 1, 1)))}
    yield {"name": "another key", "pem": pem(certificate(rsa_key("another"), "api.paypal.com"))}


# ---------------------------------------------------------------- Braintree


def braintree_gateway():
    """`Crypto` of braintree signs as `webhook_testing` does, `webhook_notification.parse` checks."""
    public, private = "FAKE_public_key", "FAKE_private_key"
    sandbox = braintree.Environment.Sandbox
    gateway = braintree.BraintreeGateway(braintree.Configuration(sandbox, "FAKE", public, private))
    found, source = events("braintree")
    for n, (name, headers, xml) in enumerate(found):
        payload = base64.encodebytes(xml.encode()).decode()
        # The signature may be of the payload with a line end more than it is sent with.
        sent = payload.rstrip("\n") if n % 3 == 2 else payload
        signature = public + "|" + Crypto.sha1_hmac_hash(private, sent + "\n" if sent != payload else payload)
        if n > 7 and n % 2:
            signature = "another_key|" + Crypto.sha1_hmac_hash("FAKE another", payload) + "&" + signature
        gateway.webhook_notification._WebhookNotificationGateway__validate_signature(signature, sent.encode())
        if "<subject>" in xml:
            assert gateway.webhook_notification.parse(signature, sent).kind in xml
        body = urlencode({"bt_signature": signature, "bt_payload": sent})
        yield vector("braintree", name, f"{public}:{private}", headers, {}, body, source)


# ---------------------------------------------------------------- generic


def generic():
    """No library: HMAC-SHA512 by Python. GitHub's published HMAC-SHA256 example is a unit test of the module."""
    secret = "FAKE-generic-secret"
    found, source = events("generic")
    for name, headers, body in found:
        digest = hmac.new(secret.encode(), body.encode(), hashlib.sha512).digest()
        signed = {source["generic"]["header"]: "sha512=" + base64.b64encode(digest).decode()}
        yield vector("generic", name, secret, headers, signed, body, source)


# ---------------------------------------------------------------- Adyen, balance platform and management


def adyen_platform():
    """`generate_payload_sig` of Adyen signs, `is_valid_hmac_payload` checks."""
    key = "00112233445566778899AABBCCDDEEFF" * 2
    found, source = events("adyen-platform")
    for name, headers, body in found:
        signature = generate_payload_sig(body.encode(), key).decode()
        assert is_valid_hmac_payload(signature, key, body.encode())
        signed = {"hmacsignature": signature}
        yield vector("adyen-platform", name, key, {"protocol": "HmacSHA256", **headers}, signed, body, source)


# ---------------------------------------------------------------- Standard Webhooks, v1a


def tollgate():
    """The official libraries know v1 only: cryptography signs v1a, standardwebhooks the v1 beside it in some vectors."""
    key = ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"FAKE ed25519 key").digest())
    raw = serialization.Encoding.Raw, serialization.PublicFormat.Raw
    public = "whpk_" + base64.b64encode(key.public_key().public_bytes(*raw)).decode()
    symmetric = "whsec_" + base64.b64encode(b"FAKE-secret-of-tollgate-v1").decode()
    found, source = events("tollgate")
    for n, (name, headers, body) in enumerate(found):
        signed = {"webhook-id": headers.pop("webhook-id"), "webhook-timestamp": str(NOW - 5)}
        text = f"{signed['webhook-id']}.{signed['webhook-timestamp']}.{body}"
        signature = "v1a," + base64.b64encode(key.sign(text.encode())).decode()
        secrets = [public]
        if n > 1 and n % 2:
            time = datetime.fromtimestamp(NOW - 5, tz=timezone.utc)
            signature = StandardWebhook(symmetric).sign(signed["webhook-id"], time, body) + " " + signature
            secrets.append(symmetric)
        signed["webhook-signature"] = signature
        yield vector("tollgate", name, secrets, headers, signed, body, source)


# ---------------------------------------------------------------- output

MAKERS = {
    "square": square,
    "checkout": checkout,
    "razorpay": razorpay,
    "mollie": mollie,
    "paypal": paypal,
    "paypal_certificates": paypal_certificates,
    "braintree": braintree_gateway,
    "generic": generic,
    "adyen-platform": adyen_platform,
    "tollgate": tollgate,
}


def main():
    for package, wanted in PINNED.items():
        found = version(package)
        if found != wanted:
            sys.exit(f"{package} {found} is installed, these vectors need {wanted}")
    differs = False
    for name, make in MAKERS.items():
        vectors = list(make())
        text = json.dumps(vectors, indent=1, sort_keys=True, ensure_ascii=True) + "\n"
        path = os.path.join(HERE, name + ".json")
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
