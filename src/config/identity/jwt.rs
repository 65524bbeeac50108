//! `identity[].jwt`: tokens of one issuer.

use std::net::IpAddr;
use std::path::PathBuf;

use super::super::reader::{Checked, FromValue, Map, Scalar, Value, expected_one_of};

/// Tokens of one issuer (RFC 7519, RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwt {
    /// The `iss` that a token must carry, to the letter.
    pub issuer: String,
    /// A token's `aud` must name one of these, or its `client_id` must be one (Cognito access tokens have no `aud`). At least one.
    pub audiences: Vec<String>,
    /// The signature algorithms that are taken; at least one. Default `[RS256]`. `none` can't be named; HMAC where, and only where, `keys` is a secret.
    pub algorithms: Vec<Algorithm>,
    /// Where the keys come from that tokens are verified with.
    pub keys: KeySource,
    /// The claim that names the tenant. A token without it is refused.
    pub tenant: ClaimPath,
    /// The claim that names the user. Default `sub`; a token without it has no user.
    pub user: ClaimPath,
    /// The claim that lists the user's groups. Default none: nobody has groups.
    pub groups: Option<ClaimPath>,
    /// Claims that must be there, each with this value or, where it is a list, with this value in it.
    pub required_claims: Vec<(ClaimPath, Scalar)>,
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A key set (RFC 7517, section 5) in a file, read again when it changes.
    File(PathBuf),
    /// A key set at a URL, fetched in the background.
    Url {
        /// The URL.
        url: Url,
        /// A PEM bundle that the server's certificate must chain to, instead of the system's roots.
        ca: Option<PathBuf>,
    },
    /// The `jwks_uri` of the issuer's own metadata (OpenID Connect Discovery 1.0, section 4).
    Discovery {
        /// Where the metadata is.
        url: Url,
        /// As above; for the key set too.
        ca: Option<PathBuf>,
    },
    /// A file that holds the secret that issuer and gateway share, for HMAC; read again when it changes.
    Secret(PathBuf),
}

impl KeySource {
    /// The bundle of authorities that is named with it.
    #[must_use]
    pub const fn ca(&self) -> Option<&PathBuf> {
        match self {
            Self::Url { ca, .. } | Self::Discovery { ca, .. } => ca.as_ref(),
            Self::File(_) | Self::Secret(_) => None,
        }
    }
}

/// A claim by name, looked for first as it is written (Cognito's `custom:tenant` or a URL), then as a dotted path into nested objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath(pub String);

/// Signature algorithms (RFC 7518, section 3.1; RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the RFC's")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    ES512,
    EdDSA,
    HS256,
    HS384,
    HS512,
}

/// `https`, or `http` to this machine: an absolute URL from which something may be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(Box<http::Uri>);

impl Url {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it, in words: it is no absolute URL, names a user or password, or goes over the network in the clear.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let uri: http::Uri = text.parse().map_err(|_| "is not a URL")?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or("is not an absolute URL")?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) || text.contains('#') {
            return Err("holds a user, a password or a fragment");
        }
        match uri.scheme_str() {
            Some("https") => Ok(Self(Box::new(uri))),
            Some("http") if is_loopback(host) => Ok(Self(Box::new(uri))),
            Some("http") => Err("is not `https`: whoever sits between could put keys of their own in place of the issuer's"),
            _ => Err("is not `https`"),
        }
    }

    /// It, as HTTP clients take it.
    #[must_use]
    pub fn uri(&self) -> &http::Uri {
        &self.0
    }

    /// Whether it is fetched over TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }
}

/// `localhost`, or an address of this machine's own (RFC 1122, section 3.2.1.3; RFC 4291, section 2.5.3).
fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl FromValue for Url {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let text = value.text()?;
        match Self::parse(text) {
            Ok(url) => Ok(url),
            Err(why) => {
                value.refuse_with(format!("{} {why}", value.quoted()), "as in `https://idp.example.com/keys`; `http` to this machine alone")
            }
        }
    }
}

impl FromValue for Jwt {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let issuer = map.value("issuer");
        let iss = map.required("issuer", "https://…");
        let audiences = map.required_by("audiences", "[tollgate]", |value| value.distinct("audience"));
        let shared = map.value("secret_file").is_some();
        let algorithms = map.value("algorithms");
        let default = if shared { Algorithm::HS256 } else { Algorithm::RS256 };
        let algorithms = algorithms.map_or(Ok(vec![default]), |value| algorithms_for(&value, shared));
        let keys = keys(&mut map, issuer.as_ref(), iss.as_deref().map_err(|reported| *reported));
        let tenant = map.required("tenant", "tenant");
        let user = map.or("user", ClaimPath("sub".to_owned()));
        let groups = map.optional("groups");
        let required_claims = map.value("required_claims").map_or(Ok(Vec::new()), |value| required_claims(&value));
        map.finish()?;
        Ok(Self {
            issuer: iss?,
            audiences: audiences?,
            algorithms: algorithms?,
            keys: keys?,
            tenant: tenant?,
            user: user?,
            groups: groups?,
            required_claims: required_claims?,
        })
    }
}

/// The one source of keys that is named; discovery where none is.
fn keys(map: &mut Map<'_>, issuer: Option<&Value<'_>>, iss: Checked<&str>) -> Checked<KeySource> {
    map.forbid("secret", "a secret does not belong in this file", "put it in a file of its own and name that: `secret_file`");
    let sources: Vec<_> = ["jwks_file", "jwks_url", "secret_file"].into_iter().filter_map(|key| map.value(key)).collect();
    let (file, url, secret) = (map.optional("jwks_file"), map.optional::<Url>("jwks_url"), map.optional("secret_file"));
    let given = map.value("ca");
    let ca = map.optional("ca");
    if let [_, second, ..] = sources.as_slice() {
        return second
            .refuse_key("a second source of keys", "name one of `jwks_file`, `jwks_url` and `secret_file`; or none, to ask the issuer");
    }
    let (file, url, secret, ca) = (file?, url?, secret?, ca?);
    if let (Some(given), true) = (&given, file.is_some() || secret.is_some()) {
        return given.refuse_key("nothing is fetched, so there is no certificate to check", "remove it, or name a `jwks_url`");
    }
    if let Some(file) = file {
        return Ok(KeySource::File(file));
    }
    if let Some(file) = secret {
        return Ok(KeySource::Secret(file));
    }
    if let Some(url) = url {
        return Ok(KeySource::Url { url, ca });
    }
    let text = iss?;
    let Some(issuer) = issuer else { return map.missing("issuer", "add `issuer: https://…`") };
    match Url::parse(&format!("{}/.well-known/openid-configuration", text.trim_end_matches('/'))) {
        Ok(url) if !text.contains('?') => Ok(KeySource::Discovery { url, ca }),
        Ok(_) => issuer.refuse_with("an issuer that is asked for its keys has no query", "name a `jwks_file` or `jwks_url`"),
        Err(why) => issuer.refuse_with(
            format!("can't be asked for its keys: it {why}"),
            "an issuer that is no `https` URL needs a `jwks_file` or `jwks_url`",
        ),
    }
}

/// The algorithms; HMAC where there is a shared secret, public keys where there is none.
fn algorithms_for(value: &Value<'_>, shared: bool) -> Checked<Vec<Algorithm>> {
    let algorithms = value.distinct("algorithm");
    let mut fitting = Ok(());
    for item in value.items()? {
        let named = item.as_text().and_then(Algorithm::named);
        if named.is_some_and(|algorithm| algorithm.is_hmac() != shared) {
            fitting = if shared {
                item.refuse_with(
                    format!("{} needs a public key, and `secret_file` holds a shared secret", item.quoted()),
                    "`HS256`, `HS384`, `HS512`; or take `secret_file` away",
                )
            } else {
                item.refuse_with(
                    format!(
                        "{} signs with a secret that issuer and gateway share: whoever can check a token could make one",
                        item.quoted()
                    ),
                    "have the issuer sign with a key pair, as in `RS256` or `ES256`; where it can't, name the secret in `secret_file`",
                )
            };
        }
    }
    fitting.and(algorithms)
}

fn required_claims(value: &Value<'_>) -> Checked<Vec<(ClaimPath, Scalar)>> {
    let map = value.map()?;
    let claims: Vec<_> =
        map.named().iter().map(|(name, value)| Scalar::from_value(value).map(|wanted| (ClaimPath((*name).to_owned()), wanted))).collect();
    claims.into_iter().collect()
}

impl FromValue for ClaimPath {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        String::from_value(value).map(Self)
    }
}

impl Algorithm {
    /// Every algorithm by its name (RFC 7518, section 3.1).
    const ALL: [(&'static str, Self); 13] = [
        ("RS256", Self::RS256),
        ("RS384", Self::RS384),
        ("RS512", Self::RS512),
        ("PS256", Self::PS256),
        ("PS384", Self::PS384),
        ("PS512", Self::PS512),
        ("ES256", Self::ES256),
        ("ES384", Self::ES384),
        ("ES512", Self::ES512),
        ("EdDSA", Self::EdDSA),
        ("HS256", Self::HS256),
        ("HS384", Self::HS384),
        ("HS512", Self::HS512),
    ];

    /// The algorithm with this name, to the letter. `none` is no algorithm.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }

    /// Whether whoever verifies could sign as well.
    #[must_use]
    pub const fn is_hmac(self) -> bool {
        matches!(self, Self::HS256 | Self::HS384 | Self::HS512)
    }
}

impl FromValue for Algorithm {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let text = value.text()?;
        if let Some(algorithm) = Self::named(text) {
            return Ok(algorithm);
        }
        if text.eq_ignore_ascii_case("none") {
            return value.refuse_with(
                "`none` is no signature: anyone could write such a token",
                "to let everyone in, say `- anonymous: { tenant: … }`",
            );
        }
        let names = Self::ALL.map(|(name, _)| name);
        let help = names.iter().find(|name| name.eq_ignore_ascii_case(text)).map(|name| format!("did you mean `{name}`?"));
        // The names are too alike to guess: ES512 is not almost ES256.
        value.refuse_with(format!("{} is not a supported algorithm", value.quoted()), help.unwrap_or_else(|| expected_one_of(&names)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_asked_in_the_clear() {
        for good in [
            "https://idp.example.com",
            "https://idp.example.com:8443/a?b=c",
            "http://localhost:1/keys",
            "http://127.8.8.8",
            "http://[::1]:1/",
        ] {
            assert!(Url::parse(good).is_ok(), "{good}");
        }
        for wrong in [
            "",
            "idp.example.com",
            "/keys",
            "ftp://127.0.0.1/",
            "file:///etc/passwd",
            "http://idp.example.com/keys",
            "http://10.0.0.1/keys",
            "http://localhost.example.com/",
            "http://127.0.0.1.example.com/",
            "http://169.254.169.254/",
            "http://[::ffff:10.0.0.1]/",
            "https://me:pass@idp.example.com/",
            "http://127.0.0.1@idp.example.com/",
            "https://idp.example.com/#a",
            "https://",
            "https://a b/",
        ] {
            assert!(Url::parse(wrong).is_err(), "{wrong}");
        }
    }
}
