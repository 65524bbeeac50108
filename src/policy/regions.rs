//! Where a call may be answered, as far as the model's id tells.

use super::model::split_geography;
use crate::config::policy::GEOGRAPHIES;

/// What a model's id says of where it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Geography<'i> {
    /// Nothing: in the upstream's own region.
    None,
    /// Anywhere in this geography.
    Known {
        /// `eu`
        name: &'static str,
        /// Every region of it; none where it may be any.
        regions: &'static [&'static str],
    },
    /// It has a prefix that looks like a geography of which nothing is known.
    Unknown(&'i str),
    /// Wherever the one who made what it names has said.
    Hidden,
    /// It is no id of Bedrock's: a route's own name for a model, or an application inference profile's.
    Nameless,
}

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

impl<'i> Geography<'i> {
    /// Of an id in lower case that is no ARN.
    pub(super) fn of(id: &'i str) -> Self {
        if let Some((name, _)) = split_geography(id) {
            let regions = GEOGRAPHIES.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, regions)| *regions);
            return Self::Known { name, regions };
        }
        let Some((first, model)) = id.split_once('.') else { return Self::Nameless };
        // No maker has a name of two letters, and countries and areas do.
        let maker = model.split('.').next().filter(|maker| maker.len() < model.len());
        let is_prefix = first.len() <= 2 || maker.is_some_and(|maker| MAKERS.contains(&maker));
        if is_prefix && maker.is_some() { Self::Unknown(first) } else { Self::None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_told_from_a_maker() {
        let name = |id| match Geography::of(id) {
            Geography::Known { name, .. } => name,
            Geography::None => "none",
            Geography::Unknown(_) => "unknown",
            Geography::Hidden => "hidden",
            Geography::Nameless => "nameless",
        };
        for (id, expected) in [
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "us"),
            ("us-gov.anthropic.claude-3-haiku", "us-gov"),
            ("global.anthropic.claude-opus-4-5", "global"),
            ("apac.amazon.nova-lite-v1:0", "apac"),
            ("us.deepseek.r1-v1:0", "us"),
            ("anthropic.claude-sonnet-4-5-20250929-v1:0", "none"),
            ("deepseek.v3.2", "none"),
            ("minimax.minimax-m2.1", "none"),
            ("newmaker.model-2.5", "none"),
            ("openai.gpt-oss-20b-1:0", "none"),
            ("sa.amazon.nova-lite-v1:0", "unknown"),
            ("latam.anthropic.claude", "unknown"),
            ("sonnet", "nameless"),
        ] {
            assert_eq!(name(id), expected, "{id}");
        }
    }
}
