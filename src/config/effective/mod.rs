//! The configuration that is in force, as gateway.yaml would say it: every default written out, no secret in it.
//!
//! Invariants: it reads back as the same configuration, but for what is hidden in it; every type is taken apart whole, so that a new key does not
//! compile until it is shown here. A secret is `***`; so are, of a URL, user and password, query and fragment. Most secrets stand in files of their
//! own, and only the path is shown.

mod identity;
mod limits;
mod scalars;
#[cfg(test)]
mod tests;

use serde_yaml::{Mapping, Value};

use self::scalars::percent;
use super::Config;
use super::admin::Admin;
use super::firewall::{Firewall, Flood};
use super::listeners::{Certificate, Clients, Listener, Presence, Tls};
use super::policy::{Lists, Operation, Rule as Policy};
use super::prices::Prices;
use super::record::{AccessLog, Destination, Ledger, Metrics, Record, Traces, Webhook, WebhookUrl};
use super::routes::{Drain, OnDisconnect, Route, Timeouts};
use super::upstreams::{Credentials, Endpoint, Upstream};

impl Config {
    /// All that is in force, in YAML, in the order of the documentation; secrets are `***`. Paths are shown as they are opened, byte sizes in bytes.
    #[must_use]
    pub fn effective(&self) -> String {
        // Only a map with keys that are not text could fail to be written.
        serde_yaml::to_string(&self.shown()).unwrap_or_else(|error| format!("# {error}\n"))
    }
}

/// What can be shown.
trait Shown {
    fn shown(&self) -> Value;
}

/// A mapping, key by key.
#[derive(Default)]
struct Section(Mapping);

impl Section {
    fn with(mut self, key: &str, value: &(impl Shown + ?Sized)) -> Self {
        self.0.insert(key.into(), value.shown());
        self
    }

    /// Without the key, where there is nothing to say.
    fn some(self, key: &str, value: Option<&(impl Shown + ?Sized)>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Without the key, where the list is empty: there, that stands for all.
    fn list<T: Shown>(self, key: &str, items: &[T]) -> Self {
        if items.is_empty() { self } else { self.with(key, items) }
    }

    fn done(self) -> Value {
        Value::Mapping(self.0)
    }
}

impl<T: Shown> Shown for [T] {
    fn shown(&self) -> Value {
        Value::Sequence(self.iter().map(Shown::shown).collect())
    }
}

impl Shown for Section {
    fn shown(&self) -> Value {
        Value::Mapping(self.0.clone())
    }
}

impl Shown for Config {
    fn shown(&self) -> Value {
        let Self { listeners, admin, firewall, identity, policy, limits, upstreams, routes, prices, record, version: _ } = self;
        let by_name = upstreams.iter().fold(Section::default(), |all, upstream| all.with(&upstream.name, upstream));
        Section::default()
            .with("listeners", listeners.as_slice())
            .with("admin", admin)
            .with("firewall", firewall)
            .with("identity", identity.as_slice())
            .with("policy", policy.as_slice())
            .with("limits", limits.as_slice())
            .with("upstreams", &by_name)
            .with("routes", routes.as_slice())
            .some("prices", {
                let Prices { file } = prices;
                file.as_ref()
            })
            .with("record", record)
            .done()
    }
}

impl Shown for Listener {
    fn shown(&self) -> Value {
        let Self { address, tls, proxy_protocol, trusted_proxies, max_connections, max_connections_per_address } = self;
        Section::default()
            .with("address", address)
            .some("tls", tls.as_ref())
            .list("proxy_protocol", proxy_protocol)
            .list("trusted_proxies", trusted_proxies)
            .with("max_connections", max_connections)
            .some("max_connections_per_address", max_connections_per_address.as_ref())
            .done()
    }
}

impl Shown for Tls {
    fn shown(&self) -> Value {
        let Self { certificates, clients } = self;
        let section = Section::default().with("certificates", certificates.as_slice());
        let Some(Clients { ca, crl, revoked, presence }) = clients else { return section.done() };
        let presence = match presence {
            Presence::Optional => "optional",
            Presence::Required => "required",
        };
        let section = section.with("client_ca", ca).some("client_crl", crl.as_ref()).some("client_revoked", revoked.as_ref());
        section.with("client_certificate", presence).done()
    }
}

impl Shown for Certificate {
    fn shown(&self) -> Value {
        let Self { certificate, key } = self;
        Section::default().with("certificate", certificate).with("key", key).done()
    }
}

impl Shown for Admin {
    fn shown(&self) -> Value {
        let Self { address } = self;
        Section::default().with("address", address).done()
    }
}

impl Shown for Firewall {
    fn shown(&self) -> Value {
        let Self { max_body, body_memory, header_timeout, body_timeout, flood } = self;
        Section::default()
            .with("max_body", max_body)
            .with("body_memory", body_memory)
            .with("header_timeout", header_timeout)
            .with("body_timeout", body_timeout)
            .some("flood", flood.as_ref())
            .done()
    }
}

impl Shown for Flood {
    fn shown(&self) -> Value {
        let Self { per_second } = self;
        Section::default().with("rate", &format!("{per_second}/second")).with("per", "address").done()
    }
}

impl Shown for Policy {
    fn shown(&self) -> Value {
        let Self { name, tenants, users, groups, methods, services, models, operations, regions, allow_unknown, shadow } = self;
        Section::default()
            .with("name", &**name)
            .list("tenants", tenants)
            .list("users", users)
            .list("groups", groups)
            .list("methods", methods)
            .some("services", services.said())
            .some("models", models.said())
            .some("operations", operations.said())
            .some("regions", regions.said())
            .with("allow_unknown", allow_unknown)
            .with("shadow", shadow)
            .done()
    }
}

impl<T> Lists<T> {
    /// It, where anything is said.
    fn said(&self) -> Option<&Self> {
        (!self.is_empty()).then_some(self)
    }
}

impl<T: Shown> Shown for Lists<T> {
    fn shown(&self) -> Value {
        let Self { allow, deny } = self;
        Section::default().list("allow", allow).list("deny", deny).done()
    }
}

impl Shown for Operation {
    fn shown(&self) -> Value {
        let Self { method, path } = self;
        format!("{method} {path}").into()
    }
}

impl Shown for Upstream {
    fn shown(&self) -> Value {
        // The name is the key that it stands under.
        let Self { name: _, region, endpoint, fips, dual_stack, credentials, ca, quotas } = self;
        let fixed = match credentials {
            // What it finds is the environment's, and not configured.
            Credentials::DefaultChain => None,
            Credentials::Static { access_key_id, secret_access_key_file, session_token_file } => Some(
                Section::default()
                    .with("access_key_id", access_key_id)
                    .with("secret_access_key_file", secret_access_key_file)
                    .some("session_token_file", session_token_file.as_ref()),
            ),
        };
        Section::default()
            .with("region", region)
            .some("endpoint", endpoint.as_ref())
            .with("fips", fips)
            .with("dual_stack", dual_stack)
            .some("credentials", fixed.as_ref())
            .some("ca", ca.as_ref())
            .list("quotas", quotas)
            .done()
    }
}

impl Shown for Endpoint {
    fn shown(&self) -> Value {
        let Self { tls, host, port } = self;
        let scheme = if *tls { "https" } else { "http" };
        // An IPv6 address stands in brackets.
        if host.contains(':') { format!("{scheme}://[{host}]:{port}").into() } else { format!("{scheme}://{host}:{port}").into() }
    }
}

impl Shown for Route {
    fn shown(&self) -> Value {
        let Self { name, to, timeouts: Timeouts { connect, idle }, on_disconnect } = self;
        Section::default()
            .with("name", &**name)
            .with("to", [Section::default().with("upstream", &**to)].as_slice())
            .with("timeouts", &Section::default().with("connect", connect).with("idle", idle))
            .with("on_disconnect", on_disconnect)
            .done()
    }
}

impl Shown for OnDisconnect {
    fn shown(&self) -> Value {
        match self {
            Self::Cancel => "cancel".into(),
            Self::Drain(Drain { time, max }) => {
                Section::default().with("drain", &Section::default().with("time", time).with("max", &u64::from(*max))).done()
            }
        }
    }
}

impl Shown for Record {
    fn shown(&self) -> Value {
        let Self { access_log, metrics: Metrics { max_series }, ledger, traces, webhook } = self;
        let section = match access_log {
            None => Section::default().with("access_log", "off"),
            Some(AccessLog { to }) => {
                let to = match to {
                    Destination::Stdout => "stdout".into(),
                    Destination::File(path) => path.shown(),
                };
                Section::default().with("access_log", &Section::default().with("to", &to).with("format", "json"))
            }
        };
        section
            .with("metrics", &Section::default().with("max_series", max_series))
            .some("ledger", ledger.as_ref())
            .some("traces", traces.as_ref())
            .some("webhook", webhook.as_ref())
            .done()
    }
}

impl Shown for Ledger {
    fn shown(&self) -> Value {
        let Self { file, keep, keep_exchanges } = self;
        Section::default().with("file", file).with("keep", keep).with("keep_exchanges", keep_exchanges).done()
    }
}

impl Shown for Traces {
    fn shown(&self) -> Value {
        let Self { otlp, sample } = self;
        Section::default().with("otlp", otlp).with("sample", &percent(*sample)).done()
    }
}

/// Its path is a secret.
impl Shown for Webhook {
    fn shown(&self) -> Value {
        let Self { url, timeout } = self;
        let section = match url {
            WebhookUrl::Given(url) => {
                let url = url.expose();
                let host = format!("{}://{}/***", url.scheme_str().unwrap_or_default(), url.authority().map_or("", |host| host.as_str()));
                Section::default().with("url", &host)
            }
            WebhookUrl::File(file) => Section::default().with("url_file", file),
        };
        section.with("timeout", timeout).done()
    }
}
