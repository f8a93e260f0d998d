"""What a tester made of the gateway's OpenAPI document cannot know: how a source signs.

Half of the valid requests of the source `shop` (Standard Webhooks) are signed, so that the answers behind the signature
are tested too; the rest is not. tests/it/conformance.rs starts the gateway.
"""

import base64
import hashlib
import hmac
import json
import os
import time

import schemathesis
from schemathesis import GenerationMode
from schemathesis.core import NotSet

KEY = base64.b64decode(os.environ["SHOP_SECRET"].removeprefix("whsec_"))


@schemathesis.hook
def before_call(context, case, kwargs):
    is_webhook = case.path == "/webhooks/shop" and case.method == "POST" and case.media_type == "application/json"
    is_valid = case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE
    if not is_webhook or not is_valid or case.body is None or isinstance(case.body, NotSet):
        return
    body = case.body if isinstance(case.body, bytes) else json.dumps(case.body).encode()
    if hashlib.sha256(body).digest()[0] % 2:
        return
    stamp = str(int(time.time()))
    signature = hmac.new(KEY, f"msg_1.{stamp}.".encode() + body, hashlib.sha256).digest()
    case.body = body
    case.headers.update({
        "webhook-id": "msg_1",
        "webhook-timestamp": stamp,
        "webhook-signature": "v1," + base64.b64encode(signature).decode(),
    })
