//! Names with wildcards, as rules are written in.

use std::fmt;

/// A pattern of a whole name, in which `*` stands for any run of characters, none included. There is no escape: names hold no `*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Glob(Box<str>);

impl Glob {
    /// The pattern, as written.
    pub fn new(pattern: impl Into<Box<str>>) -> Self {
        Self(pattern.into())
    }

    /// Whether `name` is of this pattern. Takes time in proportion to the two lengths' product at worst, and no memory.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (mut pattern, mut name) = (self.0.as_bytes(), name.as_bytes());
        // Where to go on from when a match fails: after the last star, one character further.
        let mut retry: Option<(&[u8], &[u8])> = None;
        loop {
            match (pattern.split_first(), name.split_first()) {
                // Whatever is left is the last star's run.
                (None, None) | (Some((b'*', [])), _) => return true,
                (Some((b'*', after)), _) => {
                    retry = Some((after, name));
                    pattern = after;
                }
                (Some((wanted, after)), Some((found, rest))) if wanted == found => (pattern, name) = (after, rest),
                _ => {
                    let Some((after, [_, rest @ ..])) = retry else { return false };
                    // A run ends where what follows it can begin.
                    let next = match after.first() {
                        Some(b'*') | None => Some(rest),
                        Some(first) => memchr::memchr(*first, rest).and_then(|at| rest.get(at..)),
                    };
                    let Some(rest) = next else { return false };
                    retry = Some((after, rest));
                    (pattern, name) = (after, rest);
                }
            }
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run() {
        for (pattern, name, expected) in [
            ("acme", "acme", true),
            ("acme", "acme2", false),
            ("*", "", true),
            ("trial-*", "trial-7", true),
            ("trial-*", "a-trial-7", false),
            ("*opus*", "us.anthropic.claude-opus-4", true),
            ("a*b*c", "a__b_b__c", true),
            ("a*b*c", "a__c", false),
            ("a*b*c", "a_b_c_c", true),
            ("*ab", "aab", true),
            ("*ab", "aba", false),
            ("*a*a", "a", false),
            ("a**", "a", true),
            ("**b", "ab", true),
            ("**", "x", true),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(Glob::new(pattern).matches(name), expected, "{pattern} {name}");
        }
    }

    /// As the definition has it, letter by letter.
    fn slowly(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', after)), _) => slowly(after, name) || name.split_first().is_some_and(|(_, rest)| slowly(pattern, rest)),
            (Some((wanted, after)), Some((found, rest))) => wanted == found && slowly(after, rest),
            _ => false,
        }
    }

    proptest::proptest! {
        #[test]
        fn it_agrees_with_its_definition(pattern in "[ab*]{0,8}", name in "[ab]{0,10}") {
            proptest::prop_assert_eq!(Glob::new(pattern.as_str()).matches(&name), slowly(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
