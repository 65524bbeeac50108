//! The AWS services that the gateway stands in front of.
//!
//! The table is data from AWS's service models (botocore 1.44.5, `service-2.json` and the endpoint rule sets). It names services, never
//! operations: an operation that AWS adds to one of them tomorrow passes today.

/// One service: how it is asked for, how it is signed, and what its hosts are called.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Service {
    /// The endpoint prefix: the first label of its host, and the name that clients choose it by.
    pub prefix: &'static str,
    /// The service in the credential scope of a signature.
    pub signing_name: &'static str,
    /// How its host name is made.
    pub hosts: HostRule,
    /// Whether models answer its calls, so that what is posted to it uses tokens.
    pub answers_by_models: bool,
}

/// How a service's host name follows from its prefix and the region's partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostRule {
    /// `{prefix}[-fips].{region}.{suffix}`, with the dual-stack suffix where that is asked for.
    Standard,
    /// `{prefix}.{region}.{dual-stack suffix}`, always: the service has no other name.
    DualStackOnly,
}

/// The table's words for who answers.
enum Answers {
    ByModels,
    Otherwise,
}

impl Answers {
    const fn by_models(self) -> bool {
        matches!(self, Self::ByModels)
    }
}

macro_rules! services {
    ($($name:ident: $prefix:literal, $signing:literal, $hosts:ident, $answers:ident;)*) => {
        impl Service {
            $(#[doc = concat!("`", $prefix, "`, signed as `", $signing, "`.")]
            pub const $name: &'static Service = &Service {
                prefix: $prefix,
                signing_name: $signing,
                hosts: HostRule::$hosts,
                answers_by_models: Answers::$answers.by_models(),
            };)*
        }
        /// Every service.
        pub const SERVICES: &[&Service] = &[$(Service::$name),*];
    };
}

services! {
    BEDROCK: "bedrock", "bedrock", Standard, Otherwise;
    BEDROCK_RUNTIME: "bedrock-runtime", "bedrock", Standard, ByModels;
    BEDROCK_AGENT: "bedrock-agent", "bedrock", Standard, Otherwise;
    BEDROCK_AGENT_RUNTIME: "bedrock-agent-runtime", "bedrock", Standard, ByModels;
    BEDROCK_DATA_AUTOMATION: "bedrock-data-automation", "bedrock", Standard, Otherwise;
    BEDROCK_DATA_AUTOMATION_RUNTIME: "bedrock-data-automation-runtime", "bedrock", Standard, Otherwise;
    BEDROCK_AGENTCORE: "bedrock-agentcore", "bedrock-agentcore", Standard, Otherwise;
    BEDROCK_AGENTCORE_CONTROL: "bedrock-agentcore-control", "bedrock-agentcore", Standard, Otherwise;
    BEDROCK_MANTLE: "bedrock-mantle", "bedrock-mantle", DualStackOnly, ByModels;
    AGENT_REGISTRY: "agent-registry", "agent-registry", DualStackOnly, Otherwise;
    AGENT_REGISTRY_CONTROL: "agent-registry-control", "agent-registry", DualStackOnly, Otherwise;
    NOVA_ACT: "nova-act", "nova-act", Standard, Otherwise;
}

impl Service {
    /// The service with this endpoint prefix, in any case.
    #[must_use]
    pub fn by_prefix(prefix: &str) -> Option<&'static Self> {
        SERVICES.iter().copied().find(|service| service.prefix.eq_ignore_ascii_case(prefix))
    }
}

/// The first path segments of bedrock-runtime (its model, and the OpenAI and Anthropic shapes that have none).
pub const RUNTIME_SEGMENTS: [&str; 7] = ["model", "guardrail", "guardrail-checks", "async-invoke", "openai", "anthropic", "v1"];

/// The first path segments that only the control plane has (botocore 1.44.5). `LangChain` and Claude Code send `GET /inference-profiles` to the
/// runtime's URL. A segment that AWS adds is reached by naming the service.
pub const CONTROL_SEGMENTS: [&str; 29] = [
    "advanced-prompt-optimization-job",
    "advanced-prompt-optimization-jobs",
    "automated-reasoning-policies",
    "create-foundation-model-agreement",
    "custom-models",
    "data-retention",
    "delete-foundation-model-agreement",
    "enforcedGuardrailsConfiguration",
    "evaluation-job",
    "evaluation-jobs",
    "foundation-model-availability",
    "foundation-models",
    "guardrails",
    "imported-models",
    "inference-profiles",
    "list-foundation-model-agreement-offers",
    "logging",
    "marketplace-model",
    "model-copy-jobs",
    "model-customization",
    "model-customization-jobs",
    "model-import-jobs",
    "model-invocation-job",
    "model-invocation-jobs",
    "prompt-routers",
    "provisioned-model-throughput",
    "provisioned-model-throughputs",
    "resource-policy",
    "use-case-for-model-access",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_answer_three_services() {
        let answering: Vec<&str> = SERVICES.iter().filter(|service| service.answers_by_models).map(|service| service.prefix).collect();
        assert_eq!(answering, ["bedrock-runtime", "bedrock-agent-runtime", "bedrock-mantle"]);
    }
}
