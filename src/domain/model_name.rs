//! What a model is called, whatever way a call spells it.

use std::borrow::Cow;
use std::iter;

use super::Glob;
use super::geography::{split_geography, unknown_geography};

/// A name is at most so long: Bedrock's ids have up to some 200 bytes, and ARNs of what an account made some 150.
const LONGEST: usize = 512;
/// The name that longer ones share.
const OTHER: &str = "other";

/// The one spelling by which calls of a model are counted together: the foundation model's id in lower case, without geography and ARN, as in
/// `amazon.nova-lite-v1:0`. What an account made (a profile of its own, a custom or provisioned model, a prompt, an endpoint) is itself, by its whole ARN or
/// by its id. What is written as no id of Bedrock's is itself in lower case.
///
/// A name has at most 512 bytes: longer ones are all called `other`. The name of a name is itself. It allocates where the spelling has capitals.
#[must_use]
pub fn model_name(sent: &str) -> Cow<'_, str> {
    let name: Cow<'_, str> = match fold_model(sent) {
        Some(Cow::Borrowed(id)) => bare(id).into(),
        Some(Cow::Owned(id)) => match bare(&id) {
            name if name.len() == id.len() => id.into(),
            name => name.to_owned().into(),
        },
        None if sent.len() <= LONGEST && sent.bytes().any(|byte| byte.is_ascii_uppercase()) => sent.to_ascii_lowercase().into(),
        None => sent.into(),
    };
    if name.len() <= LONGEST { name } else { OTHER.into() }
}

/// Whether one of `patterns`, in lower case, is of a model: by any of its spellings.
#[must_use]
pub fn is_model(patterns: &[Glob], sent: &str) -> bool {
    spellings(&lower_case(sent)).any(|name| patterns.iter().any(|pattern| pattern.matches(&name)))
}

/// A model as it was sent, in lower case.
#[must_use]
pub fn lower_case(sent: &str) -> Cow<'_, str> {
    fold_model(sent).unwrap_or_else(|| sent.to_ascii_lowercase().into())
}

/// The names that a pattern may find a model by, in [`lower_case`]: the id or ARN that was sent, its one spelling, and the id within that ARN.
pub fn spellings(lower: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let named = iter::once_with(move || model_name(lower)).filter(move |name| **name != *lower);
    let within = iter::once_with(move || ModelArn::read(lower)).flatten().filter(|arn| arn.is_model_or_profile());
    iter::once(lower.into()).chain(named).chain(within.map(|arn| arn.name.into()))
}

/// What is left of an id without ARNs and geographies.
fn bare(id: &str) -> &str {
    let mut id = id;
    while let Some(within) = within(id) {
        id = within;
    }
    id
}

fn within(id: &str) -> Option<&str> {
    if let Some(arn) = ModelArn::read(id) {
        return Some(arn.name).filter(|name| arn.is_model_or_profile() && !name.is_empty());
    }
    // A model's own id has its maker's name in it: `us.sonnet` is none.
    let known = split_geography(id).map(|(_, model)| model).filter(|model| model.contains('.'));
    known.or_else(|| unknown_geography(id).map(|(_, model)| model))
}

/// An id in lower case; none where it is written as no id of Bedrock's is.
///
/// Ids and ARNs of Bedrock, and `SageMaker`'s endpoints, are of these characters (botocore 1.44.5, the patterns of `modelId`), begin and end with a letter or
/// digit, and hold no empty or dotted step: what differs, the upstream may take for something else than we do.
#[must_use]
pub fn fold_model(sent: &str) -> Option<Cow<'_, str>> {
    // The slash before the first letter stands for the beginning.
    let (mut before, mut capitals) = (b'/', false);
    for byte in sent.bytes() {
        let follows = match byte {
            b'.' => !matches!(before, b'.' | b'/'),
            b'/' => !matches!(before, b'.' | b'/' | b'-'),
            b'-' | b'_' | b':' => before != b'/',
            _ => byte.is_ascii_alphanumeric(),
        };
        if !follows {
            return None;
        }
        capitals |= byte.is_ascii_uppercase();
        before = byte;
    }
    if !before.is_ascii_alphanumeric() {
        return None;
    }
    Some(if capitals { Cow::Owned(sent.to_ascii_lowercase()) } else { Cow::Borrowed(sent) })
}

/// The parts of `arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelArn<'i> {
    /// `bedrock`
    pub service: &'i str,
    /// Empty where the ARN has none.
    pub region: &'i str,
    /// `inference-profile`
    pub kind: &'i str,
    /// What follows the slash; empty where there is none.
    pub name: &'i str,
}

impl<'i> ModelArn<'i> {
    /// The parts of an ARN in lower case; none of what is no ARN.
    #[must_use]
    pub fn read(id: &'i str) -> Option<Self> {
        let mut parts = id.strip_prefix("arn:")?.splitn(5, ':');
        let (_partition, service, region, _account, resource) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let (kind, name) = resource.split_once('/').unwrap_or((resource, ""));
        Some(Self { service, region, kind, name })
    }

    /// Whether it says which foundation model it is.
    #[must_use]
    pub fn is_model_or_profile(self) -> bool {
        self.service == "bedrock" && matches!(self.kind, "foundation-model" | "inference-profile")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Models of Bedrock, and what an account makes: no two are one.
    const MODELS: [&str; 24] = [
        "ai21.jamba-1-5-large-v1:0",
        "amazon.nova-lite-v1:0",
        "amazon.nova-lite-v1:0:24k",
        "amazon.nova-micro-v1:0",
        "amazon.titan-embed-text-v2:0",
        "anthropic.claude-3-7-sonnet-20250219-v1:0",
        "anthropic.claude-haiku-4-5-20251001-v1:0",
        "anthropic.claude-opus-4-6-v1",
        "anthropic.claude-sonnet-4-6",
        "anthropic.claude-sonnet-5",
        "cohere.embed-v4:0",
        "deepseek.r1-v1:0",
        "deepseek.v3.2",
        "meta.llama3-3-70b-instruct-v1:0",
        "minimax.minimax-m2.1",
        "mistral.pixtral-large-2502-v1:0",
        "newmaker.model-2.5",
        "openai.gpt-oss-120b",
        "openai.gpt-oss-120b-1:0",
        "qwen.qwen3-coder-480b-a35b-v1:0",
        "twelvelabs.pegasus-1-2-v1:0",
        "writer.palmyra-x5-v1:0",
        "zai.glm-4.7",
        "sonnet",
    ];
    const PREFIXES: [&str; 16] =
        ["", "us.", "eu.", "apac.", "jp.", "au.", "ca.", "us-gov.", "global.", "sa.", "latam.", "me.", "us-iso.", "af.", "mex.", "emea."];
    const ARNS: [&str; 6] = [
        "",
        "arn:aws:bedrock:us-east-1::foundation-model/",
        "arn:aws:bedrock:eu-west-1::foundation-model/",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/",
        "arn:aws:bedrock:ap-northeast-1:210987654321:inference-profile/",
        "arn:aws-us-gov:bedrock:us-gov-west-1:123456789012:inference-profile/",
    ];

    /// `id`, with the letters that `mask` picks in capitals.
    fn cased(id: &str, mask: u64) -> String {
        id.chars().enumerate().map(|(at, c)| if mask >> (at % 64) & 1 == 1 { c.to_ascii_uppercase() } else { c }).collect()
    }

    #[test]
    fn a_thousand_spellings_of_a_model_are_one_name_and_no_two_models_are() {
        let mut named: HashMap<String, &str> = HashMap::new();
        for model in MODELS {
            // A name without a maker is no foundation model's: no geography stands before it.
            let known = ["amazon", "anthropic", "meta", "deepseek", "cohere", "mistral"].iter().any(|maker| model.starts_with(maker));
            let prefixes = match model {
                "sonnet" => &PREFIXES[..1],
                _ if known => &PREFIXES[..],
                _ => &PREFIXES[..9],
            };
            let mut spellings = 0;
            for prefix in prefixes {
                for arn in ARNS {
                    for mask in [0, u64::MAX, 1, 0xAAAA_AAAA_AAAA_AAAA, 0x0F0F_0F0F_0F0F_0F0F, 1 << 40, 0x5555, 0xFF00, 2, 4, 8] {
                        let sent = cased(&format!("{arn}{prefix}{model}"), mask);
                        assert_eq!(model_name(&sent), model, "{sent}");
                        spellings += 1;
                    }
                }
            }
            assert!(spellings > 1_000 || !known, "{spellings}");
            assert_eq!(named.insert(model_name(model).into_owned(), model), None, "{model}");
        }
        assert_eq!(named.len(), MODELS.len());
    }

    #[test]
    fn what_an_account_made_is_itself() {
        for (sent, name) in [
            ("abcdefghijkl", "abcdefghijkl"),
            ("ABCdefghijkl", "abcdefghijkl"),
            (
                "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/AbcDefghijkl",
                "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcdefghijkl",
            ),
            (
                "arn:aws:bedrock:us-east-1:123456789012:custom-model/amazon.nova-lite-v1:0/abcdefghijkl",
                "arn:aws:bedrock:us-east-1:123456789012:custom-model/amazon.nova-lite-v1:0/abcdefghijkl",
            ),
            (
                "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abcdefghijkl",
                "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abcdefghijkl",
            ),
            ("arn:aws:bedrock:us-east-1:1:prompt/ABCDEFGHIJ:1", "arn:aws:bedrock:us-east-1:1:prompt/abcdefghij:1"),
            ("arn:aws:sagemaker:us-east-1:1:endpoint/us.amazon.nova", "arn:aws:sagemaker:us-east-1:1:endpoint/us.amazon.nova"),
            ("arn:aws:bedrock:us-east-1::foundation-model", "arn:aws:bedrock:us-east-1::foundation-model"),
            // A route may call a model so.
            ("us.sonnet", "us.sonnet"),
            ("eu.sonnet", "eu.sonnet"),
        ] {
            assert_eq!(model_name(sent), name);
        }
    }

    #[test]
    fn what_is_written_as_no_id_is_itself_in_lower_case() {
        for (sent, name) in
            [("", ""), ("My Model!", "my model!"), ("US.anthropic.claude ", "us.anthropic.claude "), ("é/È", "é/È"), ("..", "..")]
        {
            assert_eq!(model_name(sent), name);
        }
    }

    #[test]
    fn names_that_are_too_long_share_one() {
        for long in ["x".repeat(513), "X".repeat(513), " x".repeat(300), " X".repeat(300), format!("us.amazon.{}", "n".repeat(510))] {
            assert_eq!(model_name(&long), OTHER);
        }
        assert_eq!(model_name(&"x".repeat(512)).len(), 512);
        let arn = format!("arn:aws:bedrock:{}::foundation-model/amazon.nova-lite-v1:0", "r".repeat(600));
        assert_eq!(model_name(&arn), "amazon.nova-lite-v1:0", "the name is short");
    }

    #[test]
    fn a_name_in_lower_case_is_found_in_place() {
        for sent in
            ["amazon.nova-lite-v1:0", "us.amazon.nova-lite-v1:0", "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0"]
        {
            assert!(matches!(model_name(sent), Cow::Borrowed(_)), "{sent}");
        }
    }

    #[test]
    fn a_pattern_finds_a_model_by_any_of_its_names() {
        let arn = "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/EU.anthropic.claude-sonnet-5";
        for (pattern, sent, found) in [
            ("anthropic.claude-*", "anthropic.claude-sonnet-5", true),
            ("anthropic.claude-*", "us.anthropic.claude-sonnet-5", true),
            ("anthropic.claude-*", "latam.Anthropic.Claude-sonnet-5", true),
            ("anthropic.claude-*", arn, true),
            ("anthropic.claude-*", "amazon.nova-lite-v1:0", false),
            ("eu.anthropic.*", "EU.Anthropic.claude-sonnet-5", true),
            ("eu.anthropic.*", arn, true),
            ("eu.anthropic.*", "us.anthropic.claude-sonnet-5", false),
            ("arn:aws:bedrock:eu-west-1:*", arn, true),
            ("*:provisioned-model/abc", "arn:aws:bedrock:eu-west-1:1:PROVISIONED-model/Abc", true),
            ("abc", "arn:aws:bedrock:eu-west-1:1:provisioned-model/abc", false),
            ("my *", "My Model", true),
        ] {
            assert_eq!(is_model(&[Glob::new("x"), Glob::new(pattern)], sent), found, "{pattern} {sent}");
        }
        assert!(!is_model(&[], "x"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn a_name_of_a_name_is_that_name(
            sent in prop_oneof![
                "\\PC{0,40}",
                "[a-zA-Z0-9.:/_-]{0,600}",
                "(arn:aws:bedrock:[a-z]{0,3}:[0-9]{0,2}:(foundation-model|inference-profile|prompt)/){0,3}((us|EU|xx|latam|[a-z])\\.){0,4}(amazon|anthropic|foo)?\\.?[a-zA-Z0-9:.-]{0,12}",
            ],
        ) {
            let name = model_name(&sent);
            prop_assert!(name.len() <= LONGEST);
            prop_assert_eq!(model_name(&name), &*name);
            let loud = sent.to_ascii_uppercase();
            prop_assert_eq!(model_name(&loud), &*name, "letter case is nothing");
        }
    }
}
