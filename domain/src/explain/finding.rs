//! What was found, in words: what is the matter, and what to do about it.

use std::fmt;

/// One reason of a refusal. None holds a secret or a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Finding {
    /// A header that must be there is not.
    HeaderMissing { name: String, form: String },
    /// A header that must be there once is there several times.
    HeaderRepeated { name: String, times: usize },
    /// A header is not visible ASCII.
    HeaderNotText { name: String },
    /// A header is not of its form.
    HeaderMalformed { name: String, form: String, shape: String },
    /// A header was signed, or would be accepted, with another value.
    HeaderChanged { name: String, signed: &'static str },
    /// The signature, which belongs into the body, is not there.
    NotInBody { signed: &'static str },
    /// The body, which holds the signature, cannot be read.
    BodyUnreadable { reason: String },
    /// The signature in the body, or what it signs, is not of its form.
    BodyMalformed { signed: &'static str },
    /// The signature is right, but too old or too new.
    Time { signed_unix: i64, now_unix: i64, allowed_seconds: i64 },
    /// A secret fits that may not be used at this time.
    SecretNotValid { index: usize, not_before_unix: Option<i64>, not_after_unix: Option<i64>, now_unix: i64 },
    /// A secret of another source fits.
    OtherSecret { source: String, index: usize },
    /// It is a request of another source.
    OtherSource { source: String, provider: &'static str },
    /// A secret fits when it is read in another way.
    SecretRead { index: usize, how: String },
    /// Another address was signed.
    NotificationUrl { signed: String, configured: String },
    /// Another body was signed.
    Body { signed: String },
    /// No change that was tried makes the signature fit.
    Unexplained { signed: &'static str },
}

impl Finding {
    /// The name for machines.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::HeaderMissing { .. } => "header_missing",
            Self::HeaderRepeated { .. } => "header_repeated",
            Self::HeaderNotText { .. } => "header_not_text",
            Self::HeaderMalformed { .. } => "header_malformed",
            Self::HeaderChanged { .. } => "header_changed",
            Self::NotInBody { .. } => "signature_not_in_body",
            Self::BodyUnreadable { .. } => "body_unreadable",
            Self::BodyMalformed { .. } => "signature_in_body_malformed",
            Self::Time { .. } => "time",
            Self::SecretNotValid { .. } => "secret_not_valid",
            Self::OtherSecret { .. } => "secret_of_other_source",
            Self::OtherSource { .. } => "other_source",
            Self::SecretRead { .. } => "secret_read_otherwise",
            Self::NotificationUrl { .. } => "notification_url",
            Self::Body { .. } => "body_changed",
            Self::Unexplained { .. } => "unexplained",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::HeaderMissing { .. } => {
                "Does a proxy before the gateway drop it, or was the request not sent by the provider? It must be passed on."
            }
            Self::HeaderRepeated { .. } => "Something on the way adds it again: it must be passed on as it is.",
            Self::HeaderNotText { .. } => "Something on the way changed it: it must be passed on as it is.",
            Self::HeaderMalformed { .. } => {
                "Is the source's provider the one that sends? Else something on the way changed it."
            }
            Self::HeaderChanged { .. } => {
                "Something on the way, or the sender, writes it otherwise: pass it on as the provider sent it."
            }
            Self::NotInBody { .. } => {
                "Is signing turned on at the provider, and is the source's provider the one that sends?"
            }
            Self::BodyUnreadable { .. } => "Pass on the raw bytes. Is the source's provider the one that sends?",
            Self::BodyMalformed { .. } => "Pass on the raw bytes. Is the source's provider the one that sends?",
            Self::Time { .. } => {
                "If this is a capture of earlier, say with --at when it was received. Else compare the clocks of gateway and \
                 sender (NTP), and look for a queue on the way; only then raise tolerance_seconds."
            }
            Self::SecretNotValid { .. } => {
                "Correct its not_before or not_after, or finish the rotation at the provider."
            }
            Self::OtherSecret { .. } => {
                "Configure the secret that the provider shows for this endpoint, or send to the other source's URL."
            }
            Self::OtherSource { .. } => "Let the provider send it to /webhooks/ and that source's name.",
            Self::SecretRead { .. } => {
                "Sender and gateway must make the same key of it: compare with the provider's page in docs/providers."
            }
            Self::NotificationUrl { .. } => "Configure notification_url exactly as it is registered at the provider.",
            Self::Body { .. } => {
                "Pass on the raw bytes: no parsing, no editor, no template between sender and gateway."
            }
            Self::Unexplained { .. } => {
                "Either the secret is another one: copy it again from the provider's page of this endpoint (test and live \
                 mode, and each endpoint, have their own). Or the body is not what was sent: capture it at the gateway, \
                 byte by byte. JSON whose keys were sorted cannot be put back."
            }
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeaderMissing { name, form } => write!(f, "The header {name} is missing. Expected: {form}."),
            Self::HeaderRepeated { name, times } => {
                write!(f, "The header {name} is there {times} times; it must be there once.")
            }
            Self::HeaderNotText { name } => write!(f, "The header {name} has bytes that are not visible ASCII."),
            Self::HeaderMalformed { name, form, shape } => {
                write!(f, "The header {name} cannot be read. Expected: {form}. It {shape}.")
            }
            Self::HeaderChanged { name, signed } => write!(f, "The header {name} would fit {signed}."),
            Self::NotInBody { signed } => write!(f, "The body has no signature. Expected: {signed}."),
            Self::BodyUnreadable { reason } => {
                write!(f, "The signature is in the body, and that cannot be read: {reason}.")
            }
            Self::BodyMalformed { signed } => {
                write!(f, "The signature in the body, or what it signs, cannot be read. Expected: {signed}.")
            }
            Self::Time { signed_unix, now_unix, allowed_seconds } => {
                let age = now_unix.saturating_sub(*signed_unix);
                let seconds = age.unsigned_abs();
                let side = if age < 0 { "ahead" } else { "old" };
                write!(
                    f,
                    "The signature is right, but its timestamp is {seconds} s {side} (allowed {allowed_seconds}): signed at {}, \
                     checked at {}.",
                    time(*signed_unix),
                    time(*now_unix)
                )
            }
            Self::SecretNotValid { index, not_before_unix, not_after_unix, now_unix } => {
                write!(f, "secrets[{index}] of this source fits, but may not be used at {}:", time(*now_unix))?;
                not_before_unix.map_or(Ok(()), |from| write!(f, " valid from {}", time(from)))?;
                not_after_unix.map_or(Ok(()), |to| write!(f, " valid until {}", time(to)))?;
                f.write_str(".")
            }
            Self::OtherSecret { source, index } => {
                write!(f, "It was signed with secrets[{index}] of the source {source}.")
            }
            Self::OtherSource { source, provider } => {
                write!(f, "It is a request of {provider}: the source {source} accepts its signature.")
            }
            Self::SecretRead { index, how } => {
                write!(f, "It was signed with secrets[{index}] of this source, but with the secret read {how}.")
            }
            Self::NotificationUrl { signed, configured } => {
                write!(f, "The address that was signed is {signed}, but notification_url is {configured}.")
            }
            Self::Body { signed } => write!(f, "The body is not the one that was signed: that was this body {signed}."),
            Self::Unexplained { signed } => {
                write!(
                    f,
                    "No secret of the configuration gives this signature, also not with any usual change of the body. Expected: {signed}."
                )
            }
        }
    }
}

/// A time for people.
fn time(unix: i64) -> String {
    jiff::Timestamp::from_second(unix).map_or_else(|_| format!("{unix} (Unix seconds)"), |time| time.to_string())
}
