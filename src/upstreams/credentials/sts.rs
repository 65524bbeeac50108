//! Sessions of a role: one question to STS each.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::Region;
use aws_sdk_sts::Client;
use aws_sdk_sts::config::retry::RetryConfig;
use aws_sdk_sts::config::timeout::TimeoutConfig;
use aws_sdk_sts::config::{BehaviorVersion, Config, IdentityCache};
use aws_sdk_sts::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::assume_role::{AssumeRoleError, AssumeRoleOutput};
use aws_sdk_sts::types::Tag;

use super::base::{Base, InForce};
use super::{Keys, NoKeys};
use crate::config::upstreams::{Role, Upstream};
use crate::domain::{Clock, Secret};

/// The time for one question, a second try included; calls wait a little longer.
const TIME: Duration = Duration::from_secs(4);
const TIME_OF_A_TRY: Duration = Duration::from_secs(3);
const CONNECT: Duration = Duration::from_secs(2);

/// A role, and how it is assumed.
#[derive(Debug)]
pub(super) struct Sts {
    role: Role,
    region: Region,
    fips: bool,
    dual_stack: bool,
    base: Arc<Base>,
}

/// A role and a connection to STS: it belongs to the runtime that made it.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    client: Client,
    sts: Arc<Sts>,
}

impl Sts {
    pub(super) fn new(role: Role, upstream: &Upstream, base: Arc<Base>) -> Self {
        Self { role, region: Region::new(upstream.region.clone()), fips: upstream.fips, dual_stack: upstream.dual_stack, base }
    }

    pub(super) fn asker(self: &Arc<Self>) -> Asker {
        let times = TimeoutConfig::builder().operation_timeout(TIME).operation_attempt_timeout(TIME_OF_A_TRY).connect_timeout(CONNECT);
        let mut config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(self.region.clone())
            .use_fips(self.fips)
            .use_dual_stack(self.dual_stack)
            .credentials_provider(InForce(Arc::clone(&self.base)))
            // The base renews itself.
            .identity_cache(IdentityCache::no_cache())
            .retry_config(RetryConfig::standard().with_max_attempts(2).with_initial_backoff(Duration::from_millis(200)))
            .timeout_config(times.build());
        if let Some(endpoint) = &self.role.sts_endpoint {
            config = config.endpoint_url(endpoint.url());
        }
        Asker { client: Client::from_conf(config.build()), sts: Arc::clone(self) }
    }
}

impl Asker {
    /// The keys of a new session with these tags.
    pub(super) async fn assume(&self, tags: impl Iterator<Item = (&str, &str)>, clock: &Clock) -> Result<Keys, NoKeys> {
        let Role { arn, external_id, session_name, duration, .. } = &self.sts.role;
        if self.sts.base.current(clock.wall()).is_none() {
            return Err(NoKeys::NoBase);
        }
        let tags: Result<Vec<Tag>, _> = tags.map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
        let tags = tags.map_err(|error| NoKeys::Unreachable(error.to_string().into()))?;
        let question = self
            .client
            .assume_role()
            .role_arn(arn)
            .role_session_name(session_name)
            .set_external_id(external_id.clone())
            .duration_seconds(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX))
            .set_tags((!tags.is_empty()).then_some(tags));
        let answer = question.send().await.map_err(|error| refused(&error))?;
        keys(answer, clock.wall())
    }
}

/// What an error says: a no, which asking again does not change, or nothing.
fn refused(error: &SdkError<AssumeRoleError>) -> NoKeys {
    let status = error.raw_response().map(|response| response.status().as_u16());
    match (error.as_service_error(), status) {
        (Some(said), Some(400..=499)) => {
            let (code, message) = (said.code().unwrap_or("unknown"), said.message().unwrap_or_default());
            NoKeys::Refused(format!("{code}: {message}").into())
        }
        _ => NoKeys::Unreachable(DisplayErrorContext(error).to_string().into()),
    }
}

fn keys(answer: AssumeRoleOutput, now: SystemTime) -> Result<Keys, NoKeys> {
    let unusable = |why: &str| NoKeys::Unreachable(why.into());
    let given = answer.credentials.ok_or_else(|| unusable("its answer holds no credentials"))?;
    let keys = Keys {
        access_key_id: given.access_key_id.into(),
        secret_access_key: Secret::new(given.secret_access_key),
        session_token: Some(Secret::new(given.session_token)),
        expires: Some(SystemTime::try_from(given.expiration).map_err(|error| unusable(&error.to_string()))?),
    };
    if keys.last_beyond(now) { Ok(keys) } else { Err(unusable("what it gave is expired; is the clock of this machine right?")) }
}
