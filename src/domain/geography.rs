//! What stands before a model's id: where a call of it may be answered.

/// The geographies that an inference profile may be named after, and the regions that each may have a call answered in: all that AWS documents, for
/// any model (Bedrock user guide, "Geographic cross-Region inference"; aws-cdk, `CrossRegionInferenceProfileRegion`, 2.275). `global` may
/// go anywhere. AWS may add regions to a geography: whoever lists all of them singly today is asked again by a later release.
pub const GEOGRAPHIES: [(&str, &[&str]); 8] = [
    ("global", &[]),
    ("us-gov", &["us-gov-east-1", "us-gov-west-1"]),
    ("us", &["us-east-1", "us-east-2", "us-west-1", "us-west-2"]),
    ("eu", &["eu-central-1", "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3"]),
    (
        "apac",
        &[
            "ap-east-2",
            "ap-northeast-1",
            "ap-northeast-2",
            "ap-northeast-3",
            "ap-south-1",
            "ap-south-2",
            "ap-southeast-1",
            "ap-southeast-2",
            "ap-southeast-3",
            "ap-southeast-4",
            "ap-southeast-5",
            "ap-southeast-7",
            // The United Arab Emirates: not where one looks for it.
            "me-central-1",
        ],
    ),
    ("jp", &["ap-northeast-1", "ap-northeast-3"]),
    ("au", &["ap-southeast-2", "ap-southeast-4"]),
    ("ca", &["ca-central-1", "ca-west-1"]),
];

/// The makers of models whose ids stand behind a geography, to tell one that is not known from a maker that is not (the model cards of the Bedrock user guide).
const MAKERS: [&str; 20] = [
    "ai21",
    "amazon",
    "anthropic",
    "cohere",
    "deepseek",
    "google",
    "luma",
    "meta",
    "minimax",
    "mistral",
    "moonshot",
    "moonshotai",
    "nvidia",
    "openai",
    "qwen",
    "stability",
    "twelvelabs",
    "writer",
    "xai",
    "zai",
];

/// `us.amazon.nova-lite-v1:0` is the place of `us` in [`GEOGRAPHIES`], and `amazon.nova-lite-v1:0`.
#[must_use]
pub fn split_geography(id: &str) -> Option<(usize, &str)> {
    let (first, model) = id.split_once('.')?;
    GEOGRAPHIES.iter().position(|(name, _)| *name == first).map(|place| (place, model))
}

/// `latam.anthropic.claude` is `latam`, of which nothing is known, and `anthropic.claude`: what stands before the name of a maker that is known, or is
/// too short to be a maker's itself, as countries and areas are and no maker is.
#[must_use]
pub fn unknown_geography(id: &str) -> Option<(&str, &str)> {
    let (first, model) = id.split_once('.')?;
    let (maker, _) = model.split_once('.')?;
    (first.len() <= 2 || MAKERS.contains(&maker)).then_some((first, model))
}
