//! The calls that a rule is for.

use super::super::policy::{service, some};
use super::super::reader::{Checked, FromValue, Map, Value, suggest};
use super::super::routes::Route;
use super::{Dimension, Glob, Matching};

impl Matching {
    pub(super) fn read(map: &mut Map<'_>) -> Checked<Self> {
        let mut globs = |key, what| map.value(key).map_or(Ok(Vec::new()), |value| value.distinct::<Glob>(what));
        let tenants = globs("tenants", "tenant");
        let users = globs("users", "user");
        let groups = globs("groups", "group");
        let models = globs("models", "model");
        let routes = globs("routes", "route");
        let services = map.value("services").map_or(Ok(Vec::new()), |value| some(&value, "service", service));
        Ok(Self { tenants: tenants?, users: users?, groups: groups?, models: models?, services: services?, routes: routes? })
    }
}

/// Refuses what is for a route that there is not. For rules that were read without a fault.
pub(super) fn routes_exist(value: &Value<'_>, routes: &[Route]) -> Checked<()> {
    let mut exist = Ok(());
    for rule in value.items()? {
        let Some(globs) = rule.map()?.value("routes") else { continue };
        for item in globs.items()? {
            let glob = Glob::from_value(&item)?;
            if !routes.iter().any(|route| glob.matches(&route.name)) {
                let names: Vec<&str> = routes.iter().map(|route| &*route.name).collect();
                exist = item.refuse_with(format!("there is no route {}", item.quoted()), suggest(item.text()?, &names));
            }
        }
    }
    exist
}

/// Reads `per`: a list of dimensions, or the word `global`.
pub(super) fn per(value: &Value<'_>) -> Checked<Vec<Dimension>> {
    if value.as_text() == Some("global") {
        return Ok(Vec::new());
    }
    if value.is_list() && value.items()?.is_empty() {
        return value.refuse_with("tells nobody apart", "one bucket for all is `per: global`");
    }
    value.distinct("dimension")
}

impl FromValue for Dimension {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let text = value.text()?;
        let named = Self::ALL.into_iter().find(|dimension| dimension.label() == text);
        let unknown = || {
            let help = if text == "global" {
                "one bucket for all is `per: global`, without brackets".to_owned()
            } else {
                suggest(text, &Self::ALL.map(Self::label))
            };
            value.refuse_with(format!("{} is not a dimension of callers", value.quoted()), help)
        };
        named.map_or_else(unknown, Ok)
    }
}
