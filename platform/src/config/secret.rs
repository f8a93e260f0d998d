//! Text that never prints: it is written as `[redacted]` wherever the configuration is shown.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// A secret value of the configuration.
#[derive(Clone, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// What may be shown: nothing, or of a URL all but the password.
    fn shown(&self) -> String {
        let url = self.0.split_once("://").and_then(|(scheme, rest)| {
            let (user, host) = rest.rsplit_once('@').unwrap_or(("", rest));
            let plain = |text: &str| !text.contains(['@', '?', '&', '=', ' ']);
            let user = match user.split_once(':') {
                Some((name, _)) => format!("{name}:[redacted]@"),
                None if user.is_empty() => String::new(),
                None => format!("{user}@"),
            };
            (plain(&user.replace('@', "")) && plain(host)).then(|| format!("{scheme}://{user}{host}"))
        });
        url.unwrap_or_else(|| if self.0.is_empty() { String::new() } else { "[redacted]".to_owned() })
    }

    /// The value itself, for the one place that uses it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password_and_anything_else_not_at_all() {
        for (secret, shown) in [
            ("amqp://guest:hunter2@127.0.0.1:5672/%2f", "amqp://guest:[redacted]@127.0.0.1:5672/%2f"),
            ("postgres://tollgate@db:5432/shop", "postgres://tollgate@db:5432/shop"),
            ("postgres://u:hun@ter2@db/shop", "postgres://u:[redacted]@db/shop"),
            ("postgres://db/shop?password=hunter2", "[redacted]"),
            ("whsec_hunter2", "[redacted]"),
            ("", ""),
        ] {
            assert_eq!(Secret::new(secret).shown(), shown);
        }
    }
}
