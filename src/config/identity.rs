//! `identity`: who may call, and how they prove it. Tried in order; an empty list refuses to start.

mod certificate;
mod external;
mod jwt;

use std::path::PathBuf;

use super::listeners::Listener;
use super::reader::{Checked, FromValue, Map, Value, expected_one_of};
use crate::domain::MIRROR_TENANT;

pub use self::certificate::{CertificateField, CertificateName, ClientCertificate};
pub use self::external::External;
pub(super) use self::external::is_loopback;
pub use self::jwt::{Algorithm, ClaimPath, Jwt, KeySource, Url};
pub use super::reader::Scalar;

/// One way to prove who is calling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// A signed token.
    Jwt(Jwt),
    /// The certificate that the client's connection was made with.
    ClientCertificate(ClientCertificate),
    /// A service of the operator's own says who it is.
    External(External),
    /// A random key that the gateway issued.
    ApiKeys(ApiKeys),
    /// A signature (SigV4) by a credential that the gateway issued.
    AwsCredentials(AwsCredentials),
    /// Nobody is asked.
    Anonymous(Anonymous),
}

/// API keys in a file that `tollgate keys` writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeys {
    /// The keys; read again whenever it changes.
    pub file: PathBuf,
}

/// AWS credentials in a file that `tollgate keys` writes; it may be the file of `api_keys` too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsCredentials {
    /// The credentials; read again whenever it changes.
    pub file: PathBuf,
    /// The 32 random bytes that their secrets are sealed under; none where every secret stands in the file as it is.
    pub key_file: Option<PathBuf>,
}

/// Authorization off: everyone is the same caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anonymous {
    /// The tenant that everyone is.
    pub tenant: String,
}

/// Reads `identity`, which has no default: running without authorization must be said.
pub(super) fn read(map: &mut Map<'_>) -> Checked<Vec<Method>> {
    const HELP: &str = "add a method, as in `- jwt: {…}`; or `- anonymous: { tenant: public }`, to run without authorization";
    /// Why a file of keys is named once, and what to do.
    const FILES: (&str, &str) = ("one file answers for all keys", "put all of them in one file");
    let Some(value) = map.value("identity") else {
        return map.missing("identity", HELP);
    };
    let items = value.items()?;
    if items.is_empty() {
        return value.refuse_with("nobody could prove who they are", HELP);
    }
    let mut unasked: Option<&Value<'_>> = None;
    let mut methods = Vec::new();
    let mut files: Vec<(&str, &Value<'_>)> = Vec::new();
    for item in &items {
        if let Some(everyone) = unasked {
            let message = format!("can never be reached: `anonymous` at `{}` takes everyone", everyone.path());
            methods.push(item.refuse_with(message, "put `anonymous` last"));
        }
        let method = Method::from_value(item);
        if matches!(method, Ok(Method::Anonymous(_))) {
            unasked = Some(item);
        }
        let single = match &method {
            Ok(Method::ApiKeys(_)) => Some(("api_keys", FILES)),
            Ok(Method::AwsCredentials(_)) => Some(("aws_credentials", FILES)),
            Ok(Method::ClientCertificate(_)) => Some(("client_certificate", ("it decides on every certificate", "remove one of the two"))),
            Ok(Method::Jwt(_) | Method::External(_) | Method::Anonymous(_)) | Err(_) => None,
        };
        if let Some((name, (why, help))) = single {
            if let Some((_, earlier)) = files.iter().find(|(taken, _)| *taken == name) {
                methods.push(item.refuse_with(format!("`{name}` is at `{}` already, and {why}", earlier.path()), help));
            }
            files.push((name, item));
        }
        methods.push(method);
    }
    methods.into_iter().collect()
}

/// Refuses `client_certificate` where no listener asks for one: nobody could ever show it.
pub(super) fn asked_for(map: &mut Map<'_>, methods: &Checked<Vec<Method>>, listeners: &Checked<Vec<Listener>>) -> Checked<()> {
    let (Ok(methods), Ok(listeners), Some(value)) = (methods, listeners, map.value("identity")) else { return Ok(()) };
    let wanted = methods.iter().position(|method| matches!(method, Method::ClientCertificate(_)));
    let asks = |listener: &Listener| listener.tls.as_ref().is_some_and(|tls| tls.clients.is_some());
    match wanted.and_then(|at| value.items().ok()?.into_iter().nth(at)) {
        Some(item) if !listeners.iter().any(asks) => {
            item.refuse_with("no listener asks for a client certificate", "add `client_ca` to the `tls` of a listener")
        }
        _ => Ok(()),
    }
}

impl FromValue for Method {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let (jwt, api_keys) = (map.optional("jwt"), map.optional("api_keys"));
        let (aws_credentials, anonymous) = (map.optional("aws_credentials"), map.optional("anonymous"));
        let (certificate, external) = (map.optional("client_certificate"), map.optional("external"));
        let methods = map.named().len();
        map.finish()?;
        let (jwt, anonymous) = (jwt?.map(Self::Jwt), anonymous?.map(Self::Anonymous));
        let (api_keys, aws_credentials) = (api_keys?.map(Self::ApiKeys), aws_credentials?.map(Self::AwsCredentials));
        let (certificate, external) = (certificate?.map(Self::ClientCertificate), external?.map(Self::External));
        match jwt.or(api_keys).or(aws_credentials).or(certificate).or(external).or(anonymous) {
            _ if methods > 1 => value.refuse_with("more than one key in one item", "begin each method with `- `"),
            Some(method) => Ok(method),
            None => value.refuse_with(
                "names no method",
                expected_one_of(&["jwt", "api_keys", "aws_credentials", "client_certificate", "external", "anonymous"]),
            ),
        }
    }
}

impl FromValue for ApiKeys {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let file = map.required("file", "keys.yaml");
        map.finish()?;
        Ok(Self { file: file? })
    }
}

impl FromValue for AwsCredentials {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let (file, key_file) = (map.required("file", "keys.yaml"), map.optional("key_file"));
        map.finish()?;
        Ok(Self { file: file?, key_file: key_file? })
    }
}

impl FromValue for Anonymous {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let tenant = map.required("tenant", "public").map(|Tenant(name)| name);
        map.finish()?;
        Ok(Self { tenant: tenant? })
    }
}

/// A tenant that the configuration names: any text but the one that no caller may be.
struct Tenant(String);

impl FromValue for Tenant {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        match value.text()? {
            MIRROR_TENANT => value.refuse_with(format!("{} is no tenant", value.quoted()), "mirrored calls are booked under that name"),
            name => Ok(Self(name.to_owned())),
        }
    }
}
