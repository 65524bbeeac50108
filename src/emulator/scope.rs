//! Which service and region a request is for, as its host or its path tells.

/// The first label of a service's host, and the name that it is signed under (botocore 1.44.5).
pub(super) const SIGNING_NAMES: &[(&str, &str)] = &[
    ("bedrock", "bedrock"),
    ("bedrock-runtime", "bedrock"),
    ("bedrock-agent", "bedrock"),
    ("bedrock-agent-runtime", "bedrock"),
    ("bedrock-data-automation", "bedrock"),
    ("bedrock-data-automation-runtime", "bedrock"),
    ("bedrock-agentcore", "bedrock-agentcore"),
    ("bedrock-agentcore-control", "bedrock-agentcore"),
    ("bedrock-mantle", "bedrock-mantle"),
    ("agent-registry", "agent-registry"),
    ("agent-registry-control", "agent-registry"),
    ("nova-act", "nova-act"),
];

/// What the host, or else the path, tells of the service.
pub(super) struct Named {
    pub(super) service: Option<&'static str>,
    pub(super) region: Option<String>,
}

impl Named {
    /// By the host's first label; an address or an endpoint's own name tells nothing, and then the path may.
    pub(super) fn by(host: &str, path: &str) -> Self {
        let mut labels = host.split('.');
        let first = labels.next().unwrap_or_default();
        let prefix = first.strip_suffix("-fips").unwrap_or(first);
        if let Some((_, service)) = SIGNING_NAMES.iter().find(|(known, _)| *known == prefix) {
            // A region looks like `us-east-1`; `bedrock.amazonaws.com` has none.
            let region = labels.next().filter(|label| label.contains('-') && label.ends_with(|end: char| end.is_ascii_digit()));
            return Self { service: Some(*service), region: region.map(str::to_owned) };
        }
        let bedrock = ["model", "guardrail", "async-invoke", "foundation-models", "inference-profiles"];
        let service = path.split('/').nth(1).filter(|segment| bedrock.contains(segment)).map(|_| "bedrock");
        Self { service, region: None }
    }
}
