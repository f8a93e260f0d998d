//! The keys that one secret's text can be read as, and the values that a header's text may have been before.

use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::{Engine, alphabet};

use crate::signature::{Key, hex_bytes, to_hex};

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const ENGINES: [GeneralPurpose; 2] =
    [GeneralPurpose::new(&alphabet::STANDARD, LENIENT), GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT)];

/// The HMAC keys that senders and people make of a secret's text, each with how it is read, in words.
pub fn keys(text: &str) -> Vec<(String, Key)> {
    let text = text.trim();
    let bare = text.trim_matches(['"', '\'']);
    let behind = bare.split_once('_').map(|(_, behind)| behind);
    let mut bytes: Vec<(&str, Vec<u8>)> = vec![
        ("as it stands, as text", text.into()),
        ("without the quotes around it", bare.into()),
        ("as text, with a line end behind it", format!("{text}\n").into()),
        ("as text, whsec_ before it", format!("whsec_{bare}").into()),
    ];
    for (how, text) in
        [("decoded from hexadecimal", Some(bare)), ("without its prefix, decoded from hexadecimal", behind)]
    {
        bytes.extend(text.and_then(hex_bytes).map(|key| (how, key)));
    }
    for (how, text) in [("decoded from base64", Some(bare)), ("without its prefix, decoded from base64", behind)] {
        bytes.extend(text.and_then(decoded).map(|key| (how, key)));
    }
    bytes.extend(behind.map(|text| ("without its prefix, as text", text.into())));
    let both = |(how, key): (&str, Vec<u8>)| {
        let sha256 = Key::hmac_sha256(&key).map(|key| (how.to_owned(), key));
        let sha512 = Key::hmac_sha512(&key).map(|key| (format!("{how}, by HMAC-SHA512"), key));
        sha256.into_iter().chain(sha512)
    };
    bytes.into_iter().flat_map(both).collect()
}

/// Base64 of either alphabet, padded or not.
fn decoded(text: &str) -> Option<Vec<u8>> {
    ENGINES.iter().find_map(|engine| engine.decode(text).ok())
}

/// The values that a header may have had before something rewrote it, or would have in another encoding.
pub fn values(value: &str) -> Vec<(&'static str, String)> {
    let bare = value.trim().trim_matches(['"', '\'']);
    let behind = bare.rsplit_once('=').filter(|(_, behind)| !behind.is_empty()).map_or(bare, |(_, behind)| behind);
    let mut all = vec![
        ("without the quotes around it", bare.to_owned()),
        ("without what stands before the signature", behind.to_owned()),
        ("with sha256= before it", format!("sha256={bare}")),
    ];
    if let Some(bytes) = hex_bytes(behind) {
        all.push(("in base64 where it is in hexadecimal", STANDARD.encode(bytes)));
    } else if let Some(bytes) = decoded(bare) {
        all.push(("in base64 of the usual alphabet, padded", STANDARD.encode(&bytes)));
        all.push(("in hexadecimal where it is in base64", to_hex(&bytes)));
    }
    all.retain(|(_, varied)| varied != value);
    all
}

/// What a text looks like, without telling it.
pub fn shape(text: &str) -> String {
    let kind = match text {
        "" => return "is empty".to_owned(),
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => "digits",
        _ if text.bytes().all(|byte| byte.is_ascii_hexdigit()) => "hexadecimal digits",
        _ if decoded(text).is_some() => "characters of base64",
        _ if text.contains(' ') => "characters with spaces between",
        _ => "characters",
    };
    format!("has {} {kind}", text.chars().count())
}
