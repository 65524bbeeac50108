//! `upstreams.*.credentials`: what the gateway signs with.

use std::path::PathBuf;
use std::time::Duration;

use super::super::reader::{Checked, FromValue, Map, Value, suggest};
use super::Endpoint;

/// What the calls of an upstream are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// With credentials that are found or given.
    Base(Base),
    /// With the sessions of a role.
    Role(Box<Role>),
}

/// Where credentials come from that need no further step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Base {
    /// The AWS default provider chain: environment, profile, web identity, ECS, IMDSv2.
    #[default]
    DefaultChain,
    /// A profile of the AWS configuration files, by its name.
    Profile(String),
    /// Fixed, for tests and for machines outside AWS.
    Static {
        /// The access key id: no secret.
        access_key_id: String,
        /// A file that holds the secret access key, and nothing else; read again when it changes.
        secret_access_key_file: PathBuf,
        /// A file that holds the session token, and nothing else; read again when it changes.
        session_token_file: Option<PathBuf>,
    },
}

/// A role that is assumed (STS `AssumeRole`). Bounds and patterns are those of its API reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its ARN.
    pub arn: String,
    /// What the role's owner wants to hear from whoever assumes it: 2 to 1224 characters. AWS takes it for no secret.
    pub external_id: Option<String>,
    /// What CloudTrail and cost reports show: 2 to 64 characters. Default `tollgate`.
    pub session_name: String,
    /// How long a session lasts: 15 minutes to 12 hours, and no longer than the role allows. Default an hour.
    pub duration: Duration,
    /// What a session is tagged with, by the tag's key; at most 50. Empty: one session for all callers.
    pub session_tags: Vec<(String, Attribute)>,
    /// With what STS is asked.
    pub from: Base,
    /// Where STS is asked, instead of its host in the upstream's region.
    pub sts_endpoint: Option<Endpoint>,
}

/// What of a principal becomes the value of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attribute {
    /// Its tenant.
    Tenant,
    /// Its user, where there is one.
    User,
    /// The first of its groups by the alphabet, where there is one.
    Group,
}

impl Attribute {
    const ALL: [Self; 3] = [Self::Tenant, Self::User, Self::Group];

    /// Its word in the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::User => "user",
            Self::Group => "group",
        }
    }
}

impl Default for Credentials {
    fn default() -> Self {
        Self::Base(Base::DefaultChain)
    }
}

impl FromValue for Credentials {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        if map.value("assume_role").is_none() {
            return Base::read(map).map(Self::Base);
        }
        for key in ["access_key_id", "secret_access_key_file", "session_token_file", "profile"] {
            map.forbid(key, "what the role is assumed with stands in `from`", "as in `from: { profile: base }`");
        }
        Role::read(map).map(|role| Self::Role(Box::new(role)))
    }
}

impl FromValue for Base {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        map.forbid("assume_role", "a role is not assumed by way of another", "chain them in a profile: `source_profile`");
        Self::read(map)
    }
}

impl Base {
    fn read(mut map: Map<'_>) -> Checked<Self> {
        map.forbid(
            "secret_access_key",
            "a secret does not belong in this file",
            "put it in a file of its own and name that: `secret_access_key_file`",
        );
        map.forbid(
            "session_token",
            "a secret does not belong in this file",
            "put it in a file of its own and name that: `session_token_file`",
        );
        if let Some(profile) = map.value("profile") {
            for key in ["access_key_id", "secret_access_key_file", "session_token_file"] {
                map.forbid(key, "a profile has keys of its own", "one of the two: `profile`, or the keys");
            }
            let profile = profile.text().map(str::to_owned);
            map.finish()?;
            return profile.map(Self::Profile);
        }
        let access_key_id = map.required_by("access_key_id", "AKIA…", access_key_id);
        let secret_access_key_file = map.required("secret_access_key_file", "secret");
        let session_token_file = map.optional("session_token_file");
        map.finish()?;
        Ok(Self::Static {
            access_key_id: access_key_id?,
            secret_access_key_file: secret_access_key_file?,
            session_token_file: session_token_file?,
        })
    }
}

impl Role {
    fn read(mut map: Map<'_>) -> Checked<Self> {
        const HOUR: Duration = Duration::from_hours(1);
        let arn = map.required_by("assume_role", "\"arn:aws:iam::111122223333:role/bedrock\"", arn);
        let external_id = map.value("external_id").map(|value| external_id(&value)).transpose();
        let session_name = map.value("session_name").map_or_else(|| Ok("tollgate".to_owned()), |value| session_name(&value));
        let duration = map.value("duration").map_or(Ok(HOUR), |value| duration(&value));
        let session_tags = map.value("session_tags").map_or(Ok(Vec::new()), |value| session_tags(&value));
        let from = map.or("from", Base::DefaultChain);
        let sts_endpoint = map.value("sts_endpoint").map(|value| sts_endpoint(&value)).transpose();
        map.finish()?;
        Ok(Self {
            arn: arn?,
            external_id: external_id?,
            session_name: session_name?,
            duration: duration?,
            session_tags: session_tags?,
            from: from?,
            sts_endpoint: sts_endpoint?,
        })
    }
}

/// It goes into the `Authorization` header as it is.
fn access_key_id(value: &Value<'_>) -> Checked<String> {
    let text = value.text()?;
    let word = text.len() <= 128 && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if word { Ok(text.to_owned()) } else { value.refuse("an access key id has up to 128 ASCII letters, digits and `_`") }
}

fn arn(value: &Value<'_>) -> Checked<String> {
    let text = value.text()?;
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let is_role = match parts.as_slice() {
        ["arn", partition, "iam", "", account, resource] => {
            let name = resource.strip_prefix("role/").unwrap_or_default();
            !partition.is_empty()
                && partition.chars().all(|c| c.is_ascii_lowercase() || c == '-')
                && account.len() == 12
                && account.chars().all(|c| c.is_ascii_digit())
                && !name.is_empty()
                && !name.ends_with('/')
                && name.chars().all(|c| c.is_ascii_graphic())
        }
        _ => false,
    };
    if is_role && text.len() <= 2048 {
        return Ok(text.to_owned());
    }
    value.refuse_with(format!("{} is not the ARN of a role", value.quoted()), "as in `arn:aws:iam::111122223333:role/bedrock`")
}

fn external_id(value: &Value<'_>) -> Checked<String> {
    let text = value.text()?;
    let is_one = matches!(text.len(), 2..=1224) && text.chars().all(|c| c.is_ascii_alphanumeric() || "_+=,.@:/-".contains(c));
    if is_one {
        return Ok(text.to_owned());
    }
    value.refuse_with(
        "not an external id",
        "it has 2 to 1224 ASCII letters, digits and `_+=,.@:/-`, and is put in quotes where it is a number",
    )
}

fn session_name(value: &Value<'_>) -> Checked<String> {
    let text = value.text()?;
    let is_one = matches!(text.len(), 2..=64) && text.chars().all(|c| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c));
    if is_one {
        return Ok(text.to_owned());
    }
    value.refuse_with(
        format!("{} is not a session name", value.quoted()),
        "it has 2 to 64 ASCII letters, digits and `_+=,.@-`: CloudTrail shows it",
    )
}

fn duration(value: &Value<'_>) -> Checked<Duration> {
    let duration = Duration::from_value(value)?;
    let whole = duration.subsec_nanos() == 0;
    if whole && (Duration::from_mins(15)..=Duration::from_hours(12)).contains(&duration) {
        return Ok(duration);
    }
    value
        .refuse_with(format!("{} is not how long a session may last", value.quoted()), "`15m` to `12h`, and no longer than the role allows")
}

fn sts_endpoint(value: &Value<'_>) -> Checked<Endpoint> {
    let endpoint = Endpoint::from_value(value)?;
    if endpoint.tls || endpoint.is_loopback() {
        return Ok(endpoint);
    }
    value.refuse_with("credentials would cross the network in the clear", "use `https://`")
}

fn session_tags(value: &Value<'_>) -> Checked<Vec<(String, Attribute)>> {
    /// The most that AWS takes.
    const MOST: usize = 50;
    let map = value.map()?;
    if map.named().is_empty() {
        return value.refuse_with("names no tag", "as in `{ tenant: tenant }`; without the key, all callers share one session");
    }
    if map.named().len() > MOST {
        return value.refuse(format!("{} tags, and AWS takes {MOST} at most", map.named().len()));
    }
    let mut taken: Vec<String> = Vec::new();
    let tags: Vec<Checked<_>> = map.named().iter().map(|(key, value)| session_tag(key, value, &mut taken)).collect();
    tags.into_iter().collect()
}

fn session_tag(key: &str, value: &Value<'_>, taken: &mut Vec<String>) -> Checked<(String, Attribute)> {
    let lower = key.to_lowercase();
    let valid = matches!(key.chars().count(), 1..=128)
        && key.chars().all(|c| c.is_ascii_alphanumeric() || " _.:/=+-@".contains(c))
        && key.trim() == key;
    let key = if !valid {
        value.refuse_key("not the key of a tag", "it has 1 to 128 ASCII letters, digits, blanks and `_.:/=+-@`, and no blank at its ends")
    } else if lower.starts_with("aws:") {
        value.refuse_key("`aws:` is kept for AWS's own tags", "name it otherwise")
    } else if taken.contains(&lower) {
        value.refuse_key("AWS takes it for the same key as another that differs in capitals only", "remove one of the two")
    } else {
        taken.push(lower);
        Ok(key.to_owned())
    };
    let word = value.text()?;
    let attribute = Attribute::ALL.into_iter().find(|attribute| attribute.word() == word).map_or_else(
        || {
            value.refuse_with(
                format!("{} is nothing that a principal has", value.quoted()),
                suggest(word, &Attribute::ALL.map(Attribute::word)),
            )
        },
        Ok,
    );
    Ok((key?, attribute?))
}
