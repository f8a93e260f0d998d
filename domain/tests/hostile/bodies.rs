//! Whole requests of a given size: ordinary ones, and ones that are made to cost as much as they can.

use domain::providers::{Delivery, Item, Unsigned, sign_adyen_item};
use http::HeaderMap;
use serde_json::Value;

use super::configured::{CONFIGURED, Configured};
use super::xml::payload;

/// A request to the source of this index, signed so that it is read to its end, where that is possible.
pub struct Made {
    pub what: &'static str,
    pub which: usize,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub now_unix: i64,
}

impl Made {
    pub fn configured(&self) -> &'static Configured {
        &CONFIGURED[self.which]
    }
    pub fn delivery(&self) -> Delivery<'_> {
        Delivery { headers: &self.headers, body: &self.body }
    }
}

/// Stands in a template where its filling goes.
const GAP: &str = "@gap@";

/// Where a provider's bodies have room: the source's index, the object, and what stands there; XML has a gap of its own.
const ROOM: [(usize, &str, &str); 13] = [
    (0, "stripe", "/data/object/metadata"),
    (1, "adyen", "/notificationItems/0/NotificationRequestItem/additionalData"),
    (2, "tollgate, HMAC", "/data"),
    (3, "tollgate, Ed25519", "/data"),
    (4, "square", "/data/object/payment"),
    (5, "checkout", "/data/metadata"),
    (6, "razorpay", "/payload/payment/entity/notes"),
    (7, "mollie", "/_embedded/entity/metadata"),
    (8, "paypal", "/resource"),
    (9, "braintree", ""),
    (10, "generic, SHA-512", "/objects/0/refs"),
    (11, "adyen-platform", "/data"),
    (12, "generic, SHA-256", "/objects/0/refs"),
];

pub fn sources() -> impl Iterator<Item = (usize, &'static str)> {
    ROOM.into_iter().map(|(which, name, _)| (which, name))
}

/// Whether a source's key is only its provider's.
pub fn only_provider_signs(which: usize) -> bool {
    ["paypal", "tollgate, Ed25519"].contains(&ROOM[which].1)
}

/// A recorded event of a source with an object at this place, as JSON with a gap for further members of that object.
fn with_gap(which: usize, object: &str) -> (String, i64, HeaderMap) {
    let Configured { provider, source, recorded, .. } = &CONFIGURED[which];
    let found = recorded.iter().find_map(|recorded| {
        let mut document: Value = serde_json::from_slice(&recorded.body).ok()?;
        document.pointer_mut(object)?.as_object_mut()?.insert(GAP.into(), Value::from(0));
        let text = document.to_string().replacen(&format!("\"{GAP}\":0"), GAP, 1);
        let items = (provider.normalise)(
            &Delivery { headers: &recorded.headers, body: &recorded.body },
            source,
            recorded.now_unix * 1000,
        );
        let is_event = matches!(items[..], [Item::Event(_)]) || provider.name == "adyen-platform";
        is_event.then(|| (text, recorded.now_unix, recorded.headers.clone()))
    });
    found.unwrap_or_else(|| panic!("no event of {} has {object}", provider.name))
}

/// A recorded XML with a gap for further elements of its subject.
fn xml_with_gap(which: usize) -> (String, i64) {
    let recorded = &CONFIGURED[which].recorded[0];
    let xml = String::from_utf8(payload(&recorded.body).unwrap()).unwrap();
    let (head, tail) = xml.split_once("<subject>").unwrap();
    (format!("{head}<subject>{GAP}{tail}"), recorded.now_unix)
}

/// Signs a body; a provider whose key is not there keeps the recorded headers, under which the check is made to its end.
fn made(what: &'static str, which: usize, body: Vec<u8>, now_unix: i64, recorded: HeaderMap) -> Made {
    let Configured { provider, source, secret, .. } = &CONFIGURED[which];
    if provider.name == "adyen" {
        return Made { what, which, headers: recorded, body, now_unix };
    }
    let unsigned = Unsigned { event_key: "evt_1", body: body.clone() };
    match provider.sign.and_then(|sign| sign(unsigned, source, secret, now_unix)) {
        Some(signed) => Made { what, which, headers: signed.header_map(), body: signed.body, now_unix },
        None => Made { what, which, headers: recorded, body, now_unix },
    }
}

/// What is repeated in a body up to its size.
fn filled(template: &str, bytes: usize, part: impl Fn(usize) -> String) -> Vec<u8> {
    let mut filling = String::with_capacity(bytes);
    let mut number = 0;
    while template.len() + filling.len() < bytes {
        filling.push_str(&part(number));
        number += 1;
    }
    template.replacen(GAP, filling.trim_end_matches(','), 1).into_bytes()
}

/// An Adyen item, signed; the size of its order reference makes its own.
fn adyen_item(number: usize, further: &str) -> String {
    let psp = format!("88535{number:011}");
    let fields = [&psp, "", "SampleECOM", "A-1001", "1999", "EUR", "AUTHORISATION", "true"].map(str::as_bytes);
    let signature = sign_adyen_item(fields, &CONFIGURED[1].secret);
    format!(
        "{{\"NotificationRequestItem\":{{\"eventCode\":\"AUTHORISATION\",\"success\":\"true\",\
         \"eventDate\":\"2026-11-24T09:00:00+01:00\",\"merchantAccountCode\":\"SampleECOM\",\"merchantReference\":\"A-1001\",\
         \"amount\":{{\"value\":1999,\"currency\":\"EUR\"}},\"pspReference\":\"{psp}\",\
         \"additionalData\":{{{further}\"hmacSignature\":\"{signature}\"}}}}}},"
    )
}

fn adyen_batch(bytes: usize, further: &str) -> Vec<u8> {
    filled(&format!("{{\"live\":\"false\",\"notificationItems\":[{GAP}]}}"), bytes, |number| {
        adyen_item(number, further)
    })
}

/// A recorded event with ordinary texts in its metadata, notes or description; of Adyen one item.
pub fn event(which: usize, bytes: usize) -> Made {
    let (_, what, room) = ROOM[which];
    let note = |number: usize| format!("\"note_{number}\":\"as agreed with the customer on the phone\",");
    if what == "adyen" {
        let room = bytes.saturating_sub(adyen_item(0, "").len() + 42);
        let notes: String = (0..)
            .map(note)
            .scan(0, |len, note| {
                *len += note.len();
                (*len <= room + 40).then_some(note)
            })
            .collect();
        let body =
            format!("{{\"live\":\"false\",\"notificationItems\":[{}]}}", adyen_item(0, &notes).trim_end_matches(','));
        return made(what, which, body.into_bytes(), CONFIGURED[which].recorded[0].now_unix, HeaderMap::new());
    }
    if what == "braintree" {
        let (xml, now_unix) = xml_with_gap(which);
        let element =
            |number: usize| format!("<note-{number}>as agreed with the customer on the phone</note-{number}>\n  ");
        return made(what, which, filled(&xml, bytes * 3 / 4, element), now_unix, HeaderMap::new());
    }
    let (json, now_unix, headers) = with_gap(which, room);
    made(what, which, filled(&json, bytes, note), now_unix, headers)
}

/// An ordinary large request: of Adyen a batch of items, of the others an event that holds many of its own kind.
pub fn plain(which: usize, bytes: usize) -> Made {
    let (_, what, room) = ROOM[which];
    if what == "adyen" {
        let now_unix = CONFIGURED[which].recorded[0].now_unix;
        return made(what, which, adyen_batch(bytes, ""), now_unix, HeaderMap::new());
    }
    if what == "braintree" {
        let (xml, now_unix) = xml_with_gap(which);
        let (_, copy) = xml.split_once(GAP).unwrap();
        let copy = copy.replace("</subject>", "").replace("</notification>", "");
        return made(
            what,
            which,
            filled(&xml, bytes * 3 / 4, |_| format!("<copy>{copy}</copy>")),
            now_unix,
            HeaderMap::new(),
        );
    }
    let (json, now_unix, headers) = with_gap(which, room);
    let copy = json.replacen(GAP, "\"x\":0", 1);
    let json = json.replacen(GAP, &format!("\"copies\":[{GAP}]"), 1);
    made(what, which, filled(&json, bytes, |_| format!("{copy},")), now_unix, headers)
}

/// Hostile requests of about this many bytes, to every provider.
pub fn hostile(bytes: usize) -> Vec<Made> {
    let mut all = Vec::new();
    let room = bytes - 4096;
    let times = |part: &str| part.repeat(room / part.len());
    let list = |part: &str| {
        let mut list = times(&format!("{part},"));
        list.pop();
        list
    };
    // Members of an object that the provider reads, or of the document.
    let mut json = |which: usize, what: &'static str, object: Option<&str>, members: String| {
        let (json, now_unix, headers) = with_gap(which, object.unwrap_or(ROOM[which].2));
        all.push(made(what, which, json.replacen(GAP, &members, 1).into_bytes(), now_unix, headers));
    };
    let nested = |open: &str, close: &str| {
        let depth = room / (open.len() + close.len());
        format!("{}0{}", open.repeat(depth), close.repeat(depth))
    };
    let depth = nested("[", "]");
    for (which, ..) in ROOM.into_iter().filter(|(_, what, _)| !["adyen", "braintree"].contains(what)) {
        json(which, "arrays nested to the end", None, format!("\"x\":{depth}"));
        json(which, "objects nested to the end", None, format!("\"x\":{}", nested("{\"x\":", "}")));
        json(which, "one text", None, format!("\"x\":\"{}\"", times("x")));
        json(which, "one text of escapes", None, format!("\"x\":\"{}\"", times("\\u0041")));
        json(which, "one number", None, format!("\"x\":{}", times("9")));
        json(which, "one key many times", None, list("\"x\":0"));
        json(which, "empty keys", None, list("\"\":0"));
        json(which, "keys of escapes", None, list("\"\\u0041\\n\":\"\\u0041\""));
        json(which, "empty objects", None, format!("\"x\":[{}]", list("{}")));
        json(which, "objects of one member", None, format!("\"x\":[{}]", list("{\"\":0}")));
        json(which, "numbers", None, format!("\"x\":[{}]", list("0")));
        json(which, "numbers with exponents", None, format!("\"x\":[{}]", list("-1.5e-300")));
        json(which, "blanks", None, format!("\"x\":0{}", times(" ")));
    }
    let object = Some("/data/object");
    json(0, "an amount that is a text", object, format!("\"amount\":\"{}\"", times("x")));
    json(0, "an amount that is a text of escapes", object, format!("\"amount\":\"{}\"", times("\\u0000")));
    json(0, "an amount that is a text beyond ASCII", object, format!("\"amount\":\"{}\"", times("\u{e4}")));
    json(0, "metadata that is a text", object, format!("\"metadata\":\"{}\"", times("\\n")));
    json(0, "an order of escapes", None, format!("\"order_id\":\"{}\"", times("\\n")));
    json(0, "an order many times", None, list("\"order_id\":\"A\""));
    json(0, "an order that is a list", None, format!("\"order_id\":[{}]", list("0")));
    json(2, "a decimal of zeros", None, format!("\"amount\":\"1.{}\"", times("0")));
    json(2, "a decimal of nines", None, format!("\"amount\":\"{}\"", times("9")));
    json(2, "an amount that is a list of objects", None, format!("\"amount\":[{}]", list("{\"\":0}")));
    json(2, "a payment of escapes", None, format!("\"payment_id\":\"{}\"", times("\\u00e4")));
    json(5, "a currency beyond ASCII", Some("/data"), format!("\"currency\":\"{}\"", times("\u{e4}")));
    json(7, "a time of digits", Some(""), format!("\"createdAt\":\"{}\"", times("2")));
    json(8, "links", None, format!("\"links\":[{}]", list("{\"href\":\"\",\"rel\":\"up\"}")));
    json(8, "links to parents", None, format!("\"links\":[{}]", list("{\"href\":\"/captures/1\",\"rel\":\"up\"}")));
    json(8, "links of slashes", None, format!("\"links\":[{{\"href\":\"{}\",\"rel\":\"up\"}}]", times("/")));
    json(12, "an object that is read, many times", None, list("\"shop/order\":\"A\""));
    json(12, "lists where objects are read", Some(""), format!("\"objects\":[{}]", list("[]")));
    json(12, "objects that are read, many times", Some(""), list("\"objects\":[{}]"));
    json(11, "a type of escapes", Some(""), format!("\"type\":\"{}\"", times("\\u0041")));
    let paypal = |kind: &str, member: &str, element: &str| {
        let resource = format!(
            "{{\"id\":\"O1\",\"dispute_id\":\"D1\",\"dispute_amount\":{{\"value\":\"1.00\",\"currency_code\":\"EUR\"}},\
             \"status\":\"OPEN\",\"{member}\":[{}]}}",
            list(element)
        );
        format!(
            "{{\"id\":\"WH-1\",\"event_type\":\"{kind}\",\"create_time\":\"2026-11-24T09:00:00Z\",\"resource\":{resource}}}"
        )
    };
    let recorded = &CONFIGURED[8].recorded[0];
    let mut raw = |which, what, body: String| {
        all.push(made(
            what,
            which,
            body.into_bytes(),
            CONFIGURED[which].recorded[0].now_unix,
            recorded.headers.clone(),
        ));
    };
    raw(8, "transactions of a dispute", paypal("CUSTOMER.DISPUTE.CREATED", "disputed_transactions", "{}"));
    raw(8, "units of an order", paypal("CHECKOUT.PAYMENT-APPROVAL.REVERSED", "purchase_units", "{}"));
    raw(0, "no JSON at all", times("x"));
    raw(0, "brackets that are never closed", times("["));
    raw(12, "keys that are never closed", times("{\"a\":"));
    let batch = |items: String| format!("{{\"notificationItems\":[{items}]}}");
    raw(1, "items that are none", batch(list("{\"NotificationRequestItem\":0}")));
    raw(1, "lists for items", batch(list("[]")));
    raw(1, "items without a signature", batch(list("{\"NotificationRequestItem\":{}}")));
    raw(1, "an item with keys", batch(adyen_item(0, &times("\"\":0,")).trim_end_matches(',').to_owned()));
    raw(
        1,
        "an item with nested lists",
        batch(adyen_item(0, &format!("\"x\":{depth},")).trim_end_matches(',').to_owned()),
    );
    raw(
        1,
        "an item of escapes",
        batch(adyen_item(0, &format!("\"x\":\"{}\",", times("\\u0041"))).trim_end_matches(',').to_owned()),
    );
    let refused = adyen_item(0, "").replace("\"value\":1999", "\"value\":1998");
    raw(1, "many items, the last one forged", {
        let good = String::from_utf8(adyen_batch(room, "")).unwrap();
        good.replacen("]}", &format!(",{}]}}", refused.trim_end_matches(',')), 1)
    });
    let (xml, now_unix) = xml_with_gap(9);
    let (head, tail) = xml.split_once(GAP).unwrap();
    let mut of = |what, filling: String| {
        all.push(made(what, 9, format!("{head}{filling}{tail}").into_bytes(), now_unix, HeaderMap::new()));
    };
    let xml_times = |part: &str| part.repeat(room * 3 / 4 / part.len());
    let inside = |element: &str, filling: String| format!("<{element}>{filling}</{element}>");
    of("elements", xml_times("<a></a>"));
    of("empty elements", xml_times("<a/>"));
    of(
        "elements nested to the limit",
        format!("{}{}", "<a>".repeat(400), "</a>".repeat(400)).repeat(room * 3 / 4 / 2800),
    );
    of("elements nested to the end", xml_times("<a>"));
    of("elements with attributes", xml_times("<a b='c' d='e'/>"));
    of("comments", xml_times("<!---->"));
    of("entities", inside("dispute", inside("id", xml_times("&amp;"))));
    of("characters by number", inside("dispute", inside("id", xml_times("&#65;"))));
    of("entities that are not read", xml_times("&amp;"));
    of("CDATA", inside("dispute", inside("id", xml_times("<![CDATA[]]>"))));
    let known = [
        "transaction",
        "dispute",
        "local-payment",
        "local-payment-expired",
        "local-payment-funded",
        "local-payment-reversed",
    ];
    let fields = [
        "id",
        "type",
        "amount",
        "amount-disputed",
        "currency-iso-code",
        "order-id",
        "refunded-transaction-id",
        "payment-id",
    ];
    let read: String = known
        .iter()
        .map(|element| inside(element, fields.iter().map(|field| inside(field, "x".into())).collect()))
        .collect();
    of(
        "what is read, many times",
        format!("{read}{}", inside("local-payment-reversed", xml_times("<payment-id></payment-id>"))),
    );
    of("blanks in XML", inside("dispute", inside("id", xml_times(" "))));
    of("no XML at all", xml_times("x"));
    let signature = |payload: &str| format!("bt_signature=a%7Cb&bt_payload={payload}");
    let mut form = |what, body: String| {
        all.push(Made { what, which: 9, headers: HeaderMap::new(), body: body.into_bytes(), now_unix })
    };
    form("pairs of a form", format!("{}&{}", times("a=b&"), signature("AAAA")));
    form("empty pairs", format!("{}{}", times("&"), signature("AAAA")));
    form("fields without a value", format!("{}&{}", times("a"), signature("AAAA")));
    form("percent signs", signature(&times("%41")));
    form("base64 that is none", signature(&times("=")));
    form("a signature of pairs", format!("bt_signature={}&bt_payload=AAAA", times("%7C%26")));
    form("a signature of digits", format!("bt_signature=a%7C{}&bt_payload=AAAA", times("00")));
    all
}
