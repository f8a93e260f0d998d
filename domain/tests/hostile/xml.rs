//! Braintree's XML, out of its form.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The XML of a form.
pub fn payload(form: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(form).ok()?;
    let (_, payload) = text.split_once("bt_payload=")?;
    let payload = payload.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=").replace("%0A", "");
    STANDARD.decode(payload.split('&').next()?).ok()
}
