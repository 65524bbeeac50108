//! Where a call may be answered, as far as the model's id tells.

use crate::domain::{split_geography, unknown_geography};

/// What a model's id says of where it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Geography<'i> {
    /// Nothing: in the upstream's own region.
    None,
    /// Anywhere in this geography, by its place in [`GEOGRAPHIES`](crate::domain::GEOGRAPHIES).
    Known(usize),
    /// It has a prefix that looks like a geography of which nothing is known.
    Unknown(&'i str),
    /// Wherever the one who made what it names has said.
    Hidden,
    /// It is no id of Bedrock's: a route's own name for a model, or an application inference profile's.
    Nameless,
}

impl<'i> Geography<'i> {
    /// Of an id in lower case that is no ARN.
    pub(super) fn of(id: &'i str) -> Self {
        if let Some((place, _)) = split_geography(id) {
            return Self::Known(place);
        }
        match unknown_geography(id) {
            Some((name, _)) => Self::Unknown(name),
            None if id.contains('.') => Self::None,
            None => Self::Nameless,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::GEOGRAPHIES;

    #[test]
    fn a_prefix_is_told_from_a_maker() {
        let name = |id| match Geography::of(id) {
            Geography::Known(place) => GEOGRAPHIES[place].0,
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
