"""What a tester made of the gateway's OpenAPI document cannot know: how a source signs.

Half of the valid requests of the source `shop` (Standard Webhooks) are signed, so that the answers behind the signature
are tested too; the rest is not. tests/it/conformance.rs starts the gateway.
"""

import base64
import hashlib
import hmac
import os
import time

import schemathesis
from schemathesis import GenerationMode

KEY = base64.b64decode(os.environ["SHOP_SECRET"].removeprefix("whsec_"))


@schemathesis.hook
def before_call(context, case, kwargs):
    is_webhook = case.path == "/webhooks/shop" and case.method == "POST"
    if is_webhook and case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE:
        # Signs the bytes as they are sent.
        kwargs["auth"] = sign


def sign(request):
    body = request.body.encode() if isinstance(request.body, str) else request.body or b""
    if hashlib.sha256(body).digest()[0] % 2:
        return request
    stamp = str(int(time.time()))
    signature = hmac.new(KEY, f"msg_1.{stamp}.".encode() + body, hashlib.sha256).digest()
    request.headers["webhook-id"] = "msg_1"
    request.headers["webhook-timestamp"] = stamp
    request.headers["webhook-signature"] = "v1," + base64.b64encode(signature).decode()
    return request
