//! What of a line must not be shown.
//!
//! A fault may stand beside a secret that somebody wrote into the file, or be that secret; and where YAML breaks off there is no tree to tell
//! keys from values. So this goes by lines, and hides too much rather than too little.

use std::iter;
use std::ops::Range;

/// What stands in place of a secret.
pub(super) const MASK: &str = "***";

/// The URL of a webhook is a secret as a whole, wherever within it it stands.
const WEBHOOK: &str = "webhook";

/// A margin of time, of a model's tokens.
const FIRST_TOKEN: &str = "first_token";

/// Whether the value of a key with this name is a secret, by its name: `secret_access_key`, `password`; but not `secret_access_key_file`.
pub(in super::super) fn names_a_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let bearing = ["secret", "password", "passwd", "passphrase", "token", "credential", WEBHOOK];
    !key.ends_with("file")
        && key != FIRST_TOKEN
        && (bearing.iter().any(|word| key.contains(word)) || key.ends_with("key") || key.ends_with("keys"))
}

/// A key as it may be shown, given the key that it stands under: not where a slip made a key of a secret, as in `password:abc` for want of a blank.
pub(super) fn key_without_secret<'a>(key: &'a str, above: &str) -> &'a str {
    match key.split_once([':', '=']) {
        Some((name, _)) if names_a_secret(name.trim_end()) => name,
        _ if names_a_secret(above) && !key.chars().all(in_word) => MASK,
        _ => key,
    }
}

/// The parts of the line at `index` that must not be shown: ranges of its characters, in order.
pub(super) fn to_mask(lines: &[&str], index: usize) -> Vec<Range<usize>> {
    let chars: Vec<char> = lines.get(index).map(|line| line.chars().collect()).unwrap_or_default();
    if belongs_to_a_secret(lines, index) { iter::once(content(&chars)..chars.len()).collect() } else { secrets(&chars) }
}

/// Where the first word of a line stands, after its indentation and the dashes of list items.
fn content(chars: &[char]) -> usize {
    let mut at = 0;
    loop {
        match (chars.get(at), chars.get(at + 1)) {
            (Some(' ' | '\t'), _) | (Some('-'), Some(' ')) => at += 1,
            _ => return at,
        }
    }
}

/// The parts of a line that must not be shown: values of keys that name a secret, and passwords in URLs. In order.
fn secrets(chars: &[char]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut depth = 0_usize;
    let mut word = String::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            ':' | '=' if names_a_secret(&word) => {
                let value = secret_value(chars, at + 1, depth > 0, word == WEBHOOK);
                at = value.end.max(at + 1);
                found.push(value);
                word.clear();
                continue;
            }
            _ => {}
        }
        if in_word(c) {
            word.push(c);
        } else if !matches!(c, ' ' | '"' | '\'') || chars.get(at + 1).is_some_and(|next| next.is_alphanumeric()) {
            word.clear();
        }
        at += 1;
    }
    found.extend(users_of_urls(chars));
    found.retain(|range| !range.is_empty());
    found.sort_by_key(|range| range.start);
    found
}

/// The value that follows a secret's key, from `start`; empty where a mapping follows whose own keys tell, unless that is secret as a `whole`. In doubt, up to the end of the line.
fn secret_value(chars: &[char], start: usize, in_flow: bool, whole: bool) -> Range<usize> {
    let rest = || chars.iter().enumerate().skip(start);
    let first = rest().find(|(_, c)| !c.is_whitespace()).map_or(chars.len(), |(at, _)| at);
    let end = match chars.get(first) {
        Some('{') if !whole => first,
        Some('"' | '\'' | '[' | '{' | '&' | '!') | None => chars.len(),
        // A plain scalar within braces ends at these, whatever comes.
        Some(_) if in_flow => rest().find(|(_, c)| matches!(c, ',' | '}' | ']')).map_or(chars.len(), |(at, _)| at),
        Some(_) => chars.len(),
    };
    let blanks = chars.get(first..end).map_or(0, |value| value.iter().rev().take_while(|c| c.is_whitespace()).count());
    // Blanks at the end of the line stay in: whether a range ends with the line tells whether the secret may go on.
    first..(if end < chars.len() { end - blanks } else { end })
}

/// `user:password` of every `https://user:password@host`, with the scheme or without it.
fn users_of_urls(chars: &[char]) -> Vec<Range<usize>> {
    let ends = |c: &char| c.is_whitespace() || matches!(c, '"' | '\'');
    let mut found = Vec::new();
    let mut start = 0;
    for token in chars.split(ends) {
        if let Some(sign) = token.iter().rposition(|c| *c == '@') {
            let scheme = token.windows(3).position(|three| three == [':', '/', '/']).map_or(0, |at| at + 3);
            let user = token.get(scheme..sign).unwrap_or_default();
            if user.contains(&':') {
                found.push(start + scheme..start + sign);
            }
        }
        start += token.len() + 1;
    }
    found
}

/// Whether the line is part of a secret that began on a line above it: a block under its key, or quotes and brackets that are still open.
fn belongs_to_a_secret(lines: &[&str], index: usize) -> bool {
    let chars_of = |line: &&str| line.chars().collect::<Vec<char>>();
    let Some(own) = lines.get(index).map(chars_of) else { return true };
    let mut column = content(&own);
    for above in lines.iter().take(index).rev().map(chars_of) {
        let begins = content(&above);
        if begins == above.len() || above.get(begins) == Some(&'#') {
            continue;
        }
        match opens_a_secret(&above) {
            Some(Opening::Flow) => return true,
            // A block belongs to the key above it that is indented less; and what is no key goes on with what is above it.
            Some(Opening::Block) if begins < column => return true,
            Some(Opening::Block | Opening::Mapping) if begins <= column && !is_key(&own) => return true,
            // A key at the margin ends whatever was above it.
            None if column == 0 && begins == 0 && is_key(&above) => return false,
            Some(Opening::Block | Opening::Mapping) | None => column = column.min(begins),
        }
    }
    false
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Opening {
    /// What is indented more is secret.
    Block,
    /// What is indented more is secret unless it is a key of its own: `credentials:`
    Mapping,
    /// Quotes, brackets or braces are still open, and need no indentation.
    Flow,
}

/// Whether the last secret of a line may go on below it.
fn opens_a_secret(chars: &[char]) -> Option<Opening> {
    let Some(value) = secrets(chars).into_iter().rfind(|range| range.end == chars.len()) else {
        return key_at_the_end(chars);
    };
    let (before, value) = chars.split_at_checked(value.start)?;
    let open = match value.first() {
        Some(quote @ ('"' | '\'')) => value.iter().filter(|c| *c == quote).count() % 2 == 1,
        Some('[') => !value.contains(&']'),
        _ => before.contains(&'{'),
    };
    Some(if open { Opening::Flow } else { Opening::Block })
}

/// What `name:` at the end of a line opens, where it names a secret.
fn key_at_the_end(chars: &[char]) -> Option<Opening> {
    let line: String = chars.iter().collect();
    let line = line.trim_end().strip_suffix(':')?.trim_end_matches(['"', '\'', ' ']);
    let key = line.rsplit(|c: char| !in_word(c)).next().filter(|key| names_a_secret(key))?;
    Some(if key.to_ascii_lowercase().contains("credential") { Opening::Mapping } else { Opening::Block })
}

fn in_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// Whether a line begins with a key, or with a mapping in braces.
fn is_key(chars: &[char]) -> bool {
    let line: String = chars.iter().skip(content(chars)).collect();
    let after = line.trim_start_matches(['"', '\'']).trim_start_matches(in_word).trim_start_matches(['"', '\'', ' ']);
    line.starts_with('{') || (line.starts_with(|c| in_word(c) || c == '"' || c == '\'') && after.starts_with(':'))
}
