//! `record.webhook`: who else is told that a quota is nearly used up.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::super::reader::{Checked, FromValue, Value};
use crate::domain::Secret;

/// Where warnings of limits (`warn_at`) are posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// The URL.
    pub url: WebhookUrl,
    /// The time for one try: up to 5 s. Default 5 s.
    pub timeout: Duration,
}

/// A URL that is a secret as a whole: whoever has it can post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebhookUrl {
    /// The URL itself: `https://`, or `http://`.
    Given(Secret<Uri>),
    /// A file that holds it and nothing else; read once, at the start.
    File(PathBuf),
}

/// The longest that one try may take, and takes by default.
const LONGEST: Duration = Duration::from_secs(5);

const SHAPE: &str = "`https://HOST/PATH`; or `url_file`, the path of a file that holds it";

impl WebhookUrl {
    /// What can be posted to: an absolute `http` or `https` URL without user and password.
    #[must_use]
    pub fn parse(text: &str) -> Option<Uri> {
        let url = text.parse::<Uri>().ok()?;
        let is_whole = matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|host| !host.is_empty());
        let has_user = url.authority().is_some_and(|authority| authority.as_str().contains('@'));
        (is_whole && !has_user).then_some(url)
    }
}

/// A URL, or a map of it, or of the file that holds it, and of how long a try may take.
impl FromValue for Webhook {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        if value.as_text().is_some() {
            return Ok(Self { url: given(value)?, timeout: LONGEST });
        }
        let mut map = value.map()?;
        let (here, file) = (map.value("url").map(|value| given(&value)), map.optional::<PathBuf>("url_file"));
        let timeout = map.value("timeout").map_or(Ok(LONGEST), |value| match Duration::from_value(&value)? {
            timeout if !timeout.is_zero() && timeout <= LONGEST => Ok(timeout),
            _ => value.refuse_with(format!("{} is not a time for one try", value.quoted()), "`1ms` to `5s`"),
        });
        let url = match (here, file) {
            (Some(_), Ok(Some(_))) => value.refuse_with("`url` and `url_file` say the same twice", "one of them"),
            (Some(here), file) => file.and(here),
            (None, Ok(Some(file))) => Ok(WebhookUrl::File(file)),
            (None, Ok(None)) => map.missing("url", SHAPE),
            (None, Err(fault)) => Err(fault),
        };
        map.finish()?;
        Ok(Self { url: url?, timeout: timeout? })
    }
}

fn given(value: &Value<'_>) -> Checked<WebhookUrl> {
    match WebhookUrl::parse(value.text()?) {
        Some(url) => Ok(WebhookUrl::Given(Secret::new(url))),
        // It is not quoted: what is nearly a URL is nearly a secret.
        None => value.refuse_with("it is no URL that can be posted to", SHAPE),
    }
}
