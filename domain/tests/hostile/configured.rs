//! Every provider with a source and a secret, and the requests that were recorded of it: those of `tests/vectors`.

use std::sync::LazyLock;

use domain::providers::{self, Provider, Source};
use domain::signature::Secret;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

/// A source as it is configured.
pub struct Configured {
    pub provider: &'static Provider,
    pub source: Source,
    /// The secret's text, for explanations.
    pub text: String,
    pub secret: Secret,
    pub recorded: Vec<Recorded>,
}

/// A request that a provider's own library signed.
pub struct Recorded {
    pub now_unix: i64,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// One file a source; Standard Webhooks are Tollgate's own, by HMAC, and `tollgate.json` is by Ed25519.
const FILES: [&str; 12] = [
    include_str!("../vectors/stripe.json"),
    include_str!("../vectors/adyen.json"),
    include_str!("../vectors/standard_webhooks.json"),
    include_str!("../vectors/tollgate.json"),
    include_str!("../vectors/square.json"),
    include_str!("../vectors/checkout.json"),
    include_str!("../vectors/razorpay.json"),
    include_str!("../vectors/mollie.json"),
    include_str!("../vectors/paypal.json"),
    include_str!("../vectors/braintree.json"),
    include_str!("../vectors/generic.json"),
    include_str!("../vectors/adyen-platform.json"),
];

/// Those of the files, and the generic one with its other hash function and encoding.
pub static CONFIGURED: LazyLock<Vec<Configured>> = LazyLock::new(|| {
    let files = FILES.into_iter().map(|file| serde_json::from_str(file).unwrap());
    let mut values: Vec<Vec<Value>> = files.collect();
    let mut other = values[10].clone();
    other[0]["source"]["generic"]["algorithm"] = "sha256".into();
    other[0]["source"]["generic"]["encoding"] = "hex".into();
    values.push(other);
    values.iter().map(|values| configured(values)).collect()
});

fn configured(values: &[Value]) -> Configured {
    let first = &values[0];
    let text = |name: &str| first["source"][name].as_str().unwrap_or_default().to_owned();
    let provider = providers::find(match first["provider"].as_str().unwrap() {
        "standard_webhooks" => "tollgate",
        name => name,
    })
    .unwrap();
    let source = Source {
        name: "s".into(),
        region: "eu".into(),
        order_key: "order_id".into(),
        user_key: "user_id".into(),
        tolerance_seconds: 300,
        notification_url: text("notification_url"),
        webhook_id: text("webhook_id"),
        generic: serde_json::from_value(first["source"]["generic"].clone()).unwrap(),
        ..Source::default()
    };
    let text = first["secret"].as_str().or(first["secrets"][0].as_str()).unwrap().to_owned();
    let secret = Secret::of((provider.prepare_secret)(&text, &source).unwrap(), None, None);
    Configured { provider, source, text, secret, recorded: values.iter().map(recorded).collect() }
}

fn recorded(value: &Value) -> Recorded {
    let headers = value["headers"].as_object().unwrap().iter().map(|(name, value)| {
        (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value.as_str().unwrap()).unwrap())
    });
    Recorded {
        now_unix: value["now_unix"].as_i64().unwrap(),
        headers: headers.collect(),
        body: value["body"].as_str().unwrap().into(),
    }
}
