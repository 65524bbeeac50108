//! `identity`: who may call, and how they prove it. Tried in order; an empty list refuses to start.

mod jwt;

use super::reader::{Checked, FromValue, Map, Value, expected_one_of};

pub use self::jwt::{Algorithm, ClaimPath, Jwt, KeySource, Url};
pub use super::reader::Scalar;

/// One way to prove who is calling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// A signed token.
    Jwt(Jwt),
    /// Nobody is asked.
    Anonymous(Anonymous),
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
    let Some(value) = map.value("identity") else {
        return map.missing("identity", HELP);
    };
    let items = value.items()?;
    if items.is_empty() {
        return value.refuse_with("nobody could prove who they are", HELP);
    }
    let mut unasked: Option<&Value<'_>> = None;
    let mut methods = Vec::new();
    for item in &items {
        if let Some(everyone) = unasked {
            let message = format!("can never be reached: `anonymous` at `{}` takes everyone", everyone.path());
            methods.push(item.refuse_with(message, "put `anonymous` last"));
        }
        let method = Method::from_value(item);
        if matches!(method, Ok(Method::Anonymous(_))) {
            unasked = Some(item);
        }
        methods.push(method);
    }
    methods.into_iter().collect()
}

impl FromValue for Method {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let (jwt, anonymous) = (map.optional("jwt"), map.optional("anonymous"));
        let methods = map.named().len();
        map.finish()?;
        match (jwt?, anonymous?) {
            _ if methods > 1 => value.refuse_with("more than one key in one item", "begin each method with `- `"),
            (Some(jwt), _) => Ok(Self::Jwt(jwt)),
            (None, Some(anonymous)) => Ok(Self::Anonymous(anonymous)),
            (None, None) => value.refuse_with("names no method", expected_one_of(&["jwt", "anonymous"])),
        }
    }
}

impl FromValue for Anonymous {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let mut map = value.map()?;
        let tenant = map.required("tenant", "public");
        map.finish()?;
        Ok(Self { tenant: tenant? })
    }
}
