//! `upstreams`: the AWS regions and accounts that calls go to, by name.

mod credentials;
mod endpoint;
mod health;
mod quotas;

use std::path::PathBuf;
use std::sync::Arc;

use super::reader::{Checked, Map, Name, Value};

pub use self::credentials::{Attribute, Base, Credentials, Role};
pub use self::endpoint::{Endpoint, Endpoints};
pub use self::health::{Budget, Health, HealthRule};
pub use self::quotas::Quota;

/// One region of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its key in the file.
    pub name: Arc<str>,
    /// The AWS region: in host names and in every signature's scope.
    pub region: String,
    /// Where to connect instead of the region's own hosts. It wins over `fips` and `dual_stack`.
    pub endpoint: Endpoints,
    /// Use the FIPS host names.
    pub fips: bool,
    /// Use the dual-stack host names.
    pub dual_stack: bool,
    /// Where the gateway's own credentials come from. Default: the AWS default provider chain.
    pub credentials: Credentials,
    /// A PEM bundle that server certificates must chain to, instead of the system's roots (private endpoints, tests).
    pub ca: Option<PathBuf>,
    /// When it is left alone for a while.
    pub health: Health,
    /// What AWS grants the account, as far as it is told.
    pub quotas: Vec<Quota>,
}

/// Reads `upstreams`: at least one, by name.
pub(super) fn read(map: &mut Map<'_>) -> Checked<Vec<Upstream>> {
    map.required_by("upstreams", "{ use1: { region: us-east-1 } }", |value| {
        let map = value.map()?;
        if map.named().is_empty() {
            return value.refuse_with("needs at least one upstream", "as in `use1: { region: us-east-1 }`");
        }
        let upstreams: Vec<Checked<Upstream>> = map.named().iter().map(|(name, value)| Upstream::from_value(name, value)).collect();
        upstreams.into_iter().collect()
    })
}

impl Upstream {
    fn from_value(name: &str, value: &Value<'_>) -> Checked<Self> {
        let well_named = if Name::is_valid(name) { Ok(()) } else { value.refuse_key("not a valid name for an upstream", Name::RULE) };
        let mut map = value.map()?;
        let region = map.required_by("region", "us-east-1", region);
        let endpoint = map.or("endpoint", Endpoints::Regional);
        let fips = map.or("fips", false);
        let dual_stack = map.or("dual_stack", false);
        let credentials = map.or("credentials", Credentials::default());
        let ca = map.optional("ca");
        let health = map.or("health", Health::default());
        let quotas = quotas::read(&mut map);
        map.finish()?;
        well_named?;
        Ok(Self {
            name: name.into(),
            region: region?,
            endpoint: endpoint?,
            fips: fips?,
            dual_stack: dual_stack?,
            credentials: credentials?,
            ca: ca?,
            health: health?,
            quotas: quotas?,
        })
    }
}

/// A region by its shape, `us-east-1` or `us-gov-west-1`: AWS adds new ones faster than gateways are released.
fn region(value: &Value<'_>) -> Checked<String> {
    let text = value.text()?;
    if looks_like_a_region(text) {
        return Ok(text.to_owned());
    }
    let lower = text.to_ascii_lowercase();
    let zone = lower.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let near = [lower.as_str(), zone].into_iter().find(|near| looks_like_a_region(near));
    let help = near.map_or_else(|| "as in `us-east-1` or `eu-central-1`".to_owned(), |near| format!("did you mean `{near}`?"));
    value.refuse_with(format!("{} is not an AWS region", value.quoted()), help)
}

pub(super) fn looks_like_a_region(text: &str) -> bool {
    let mut parts = text.split('-');
    let (area, number) = (parts.next().unwrap_or_default(), parts.next_back().unwrap_or_default());
    let letters = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase());
    let words: Vec<&str> = parts.collect();
    let numbered = !number.is_empty() && number.len() <= 2 && number.chars().all(|c| c.is_ascii_digit());
    area.len() >= 2 && letters(area) && !words.is_empty() && words.into_iter().all(letters) && numbered && text.len() <= 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_told_by_its_shape() {
        for region in ["us-east-1", "us-gov-west-1", "us-isob-east-1", "ap-southeast-7", "eusc-de-east-1", "cn-northwest-1"] {
            assert!(looks_like_a_region(region), "{region}");
        }
        for other in [
            "",
            "-",
            "us",
            "us-1",
            "us-east",
            "us-east-1a",
            "u-east-1",
            "us--east-1",
            "-east-1",
            "us-east-",
            "us-east-123",
            "us1-east-1",
            "us.east-1",
        ] {
            assert!(!looks_like_a_region(other), "{other}");
        }
    }
}
