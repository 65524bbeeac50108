//! keys.yaml: a list of issued keys, one entry each.

use std::fmt;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};
use serde_yaml::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::hex;
use super::error::KeysError;
use crate::domain::{MIRROR_TENANT, Secret};

/// The largest file that is read, in bytes.
pub(super) const MAX_FILE: u64 = 16 << 20;
/// The most entries that it may hold.
pub(super) const MAX_ENTRIES: usize = 100_000;

/// One key as it stands in the file. What belongs together is checked by [`Entry::check`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a key")]
pub(super) struct Entry {
    /// An API key's public name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    /// The SHA-256 of an API key, in lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<String>,
    /// An AWS credential's public name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) access_key_id: Option<String>,
    /// Its secret, encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sealed_secret: Option<Hidden>,
    /// Its secret, as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) secret_access_key: Option<Hidden>,
    /// Whose it is.
    pub(super) tenant: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) groups: Vec<String>,
    /// RFC 3339; never, where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) disabled: bool,
}

/// What an entry is for, once it holds together.
pub(super) enum Kind<'e> {
    ApiKey { id: &'e str, sha256: [u8; 32] },
    Aws { access_key_id: &'e str, secret: AtRest<'e> },
}

/// A secret as the file holds it.
pub(super) enum AtRest<'e> {
    Sealed(&'e str),
    Clear(&'e Hidden),
}

impl Entry {
    /// Its public name, where it has one.
    pub(super) fn name(&self) -> Option<&str> {
        self.id.as_deref().or(self.access_key_id.as_deref())
    }

    /// What it is for and when it ends; or what is wrong with it, in words that show no secret.
    pub(super) fn check(&self) -> Result<(Kind<'_>, Option<OffsetDateTime>), &'static str> {
        let kind = match (&self.id, &self.sha256, &self.access_key_id, &self.sealed_secret, &self.secret_access_key) {
            (Some(id), Some(hash), None, None, None) => {
                let sha256 = hex::sha256(hash).ok_or("`sha256` is not 64 lower-case hexadecimal digits")?;
                Kind::ApiKey { id, sha256 }
            }
            (None, None, Some(access_key_id), Some(sealed), None) => Kind::Aws { access_key_id, secret: AtRest::Sealed(sealed.0.expose()) },
            (None, None, Some(access_key_id), None, Some(clear)) if !clear.0.expose().is_empty() => {
                Kind::Aws { access_key_id, secret: AtRest::Clear(clear) }
            }
            _ => {
                return Err("an API key has `id` and `sha256`; an AWS credential has `access_key_id` and one of `sealed_secret` and \
                            `secret_access_key`; an entry is one of the two");
            }
        };
        let is_name = |name: &str| {
            (1..=128).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        };
        match &kind {
            Kind::ApiKey { id, .. } if !is_name(id) => return Err("`id` is not 1 to 128 letters, digits, `-`, `_` and `.`"),
            Kind::Aws { access_key_id, .. }
                if !access_key_id.bytes().all(|byte| byte.is_ascii_alphanumeric()) || !is_name(access_key_id) =>
            {
                return Err("`access_key_id` is not 1 to 128 letters and digits");
            }
            Kind::ApiKey { .. } | Kind::Aws { .. } => {}
        }
        let is_word = |word: &str| (1..=256).contains(&word.len()) && !word.chars().any(char::is_control);
        if !is_word(&self.tenant) || !self.user.iter().chain(&self.groups).all(|word| is_word(word)) {
            return Err("`tenant`, `user` and each of `groups` are 1 to 256 bytes without control characters");
        }
        if self.tenant == MIRROR_TENANT {
            return Err("`tenant` is the name that mirrored calls are booked under");
        }
        let expires = self.expires.as_deref().map(|at| OffsetDateTime::parse(at, &Rfc3339)).transpose();
        Ok((kind, expires.map_err(|_| "`expires` is not a time such as `2027-01-31T00:00:00Z`")?))
    }
}

/// All entries of a file's text. An empty file holds none.
pub(super) fn read(text: &str) -> Result<Vec<Entry>, KeysError> {
    let entries: Option<Vec<Entry>> = serde_yaml::from_str(text).map_err(|error| KeysError::Syntax(without_secrets(&error.to_string())))?;
    let entries = entries.unwrap_or_default();
    if entries.len() > MAX_ENTRIES { Err(KeysError::TooMany) } else { Ok(entries) }
}

/// The text of a file of these entries.
pub(super) fn written(entries: &[Entry]) -> Result<String, serde_yaml::Error> {
    const TOP: &str = "# Keys that Tollgate issued. `tollgate keys` writes this file anew and keeps no comments.\n";
    Ok(format!("{TOP}{}", serde_yaml::to_string(entries)?))
}

/// serde's message, which quotes what it stumbled over: words too long for a name of ours may be secrets.
fn without_secrets(message: &str) -> String {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '+' | '/' | '=');
    let mut out = String::with_capacity(message.len());
    for piece in message.split_inclusive(|c| !is_part(c)) {
        let word = piece.trim_end_matches(|c| !is_part(c));
        if word.len() > 20 {
            out.push_str("***");
            out.push_str(piece.strip_prefix(word).unwrap_or_default());
        } else {
            out.push_str(piece);
        }
    }
    out
}

/// A text that no message shows, not even one that finds it to be of the wrong kind.
#[derive(Clone, Debug)]
pub(super) struct Hidden(pub(super) Secret<String>);

impl Hidden {
    pub(super) const fn of(text: String) -> Self {
        Self(Secret::new(text))
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self::of(text)),
            _ => Err(D::Error::custom("expected text: put the value in quotes")),
        }
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose())
    }
}

impl fmt::Display for Kind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ApiKey { .. } => "api key",
            Self::Aws { .. } => "aws",
        })
    }
}
