//! `upstreams`, written out.

use serde_yaml::Value;

use super::super::upstreams::{Base, Credentials, Endpoint, Endpoints, Role, Upstream};
use super::{Section, Shown};

impl Shown for Upstream {
    fn shown(&self) -> Value {
        // The name is the key that it stands under.
        let Self { name: _, region, endpoint, fips, dual_stack, credentials, ca, health, quotas } = self;
        let credentials = match credentials {
            Credentials::Base(base) => found(base),
            Credentials::Role(role) => Some(assumed(role)),
        };
        let section = Section::default().with("region", region);
        let section = match endpoint {
            Endpoints::Regional => section,
            Endpoints::One(endpoint) => section.with("endpoint", endpoint),
            Endpoints::ByService(endpoints) => {
                let by_service = endpoints.iter().fold(Section::default(), |all, (service, endpoint)| all.with(service, endpoint));
                section.with("endpoint", &by_service)
            }
        };
        section
            .with("fips", fips)
            .with("dual_stack", dual_stack)
            .some("credentials", credentials.as_ref())
            .some("ca", ca.as_ref())
            .with("health", health)
            .list("quotas", quotas)
            .done()
    }
}

/// None for the default chain: what it finds is the environment's, and not configured.
fn found(base: &Base) -> Option<Section> {
    match base {
        Base::DefaultChain => None,
        Base::Profile(name) => Some(Section::default().with("profile", name)),
        Base::Static { access_key_id, secret_access_key_file, session_token_file } => Some(
            Section::default()
                .with("access_key_id", access_key_id)
                .with("secret_access_key_file", secret_access_key_file)
                .some("session_token_file", session_token_file.as_ref()),
        ),
    }
}

fn assumed(role: &Role) -> Section {
    let Role { arn, external_id, session_name, duration, session_tags, from, sts_endpoint } = role;
    let tags = session_tags.iter().fold(Section::default(), |all, (key, attribute)| all.with(key, attribute.word()));
    Section::default()
        .with("assume_role", arn)
        .some("external_id", external_id.as_ref())
        .with("session_name", session_name)
        .with("duration", duration)
        .some("session_tags", (!session_tags.is_empty()).then_some(&tags))
        .some("from", found(from).as_ref())
        .some("sts_endpoint", sts_endpoint.as_ref())
}

impl Shown for Endpoint {
    fn shown(&self) -> Value {
        self.url().into()
    }
}
