//! The line of a fault, fit to be shown: without secrets, without control characters, not too long, and underlined.

use std::iter;
use std::ops::Range;

use super::faults::Place;

/// Longer lines are cut around the fault.
const MAX_WIDTH: usize = 120;
const MASK: &str = "***";

/// One line of the file and what is to stand below it.
#[derive(Clone, Debug)]
pub(super) struct Excerpt {
    pub(super) line: String,
    /// Blanks, then carets.
    pub(super) underline: String,
}

impl Excerpt {
    /// The line at `place` of a file's `lines`; none where there is no such line.
    pub(super) fn new(lines: &[&str], place: Place) -> Option<Self> {
        let index = place.line.checked_sub(1)?;
        let chars: Vec<char> = lines.get(index)?.chars().collect();
        let at = place.column.saturating_sub(1).min(chars.len());
        let masked = if belongs_to_a_secret(lines, index) { vec![content(&chars)..chars.len()] } else { secrets(&chars) };
        let underlined = at..extent(&chars, at);

        // Per character shown: the character, and whether it is underlined.
        let mut shown: Vec<(char, bool)> = Vec::new();
        let mut position = 0;
        while let Some(&c) = chars.get(position) {
            if let Some(mask) = masked.iter().find(|mask| mask.contains(&position)) {
                let marked = mask.start < underlined.end && underlined.start < mask.end;
                shown.extend(MASK.chars().map(|c| (c, marked)));
                position = mask.end;
            } else {
                shown.push((printable(c), underlined.contains(&position)));
                position += 1;
            }
        }
        if !shown.iter().any(|(_, marked)| *marked) {
            shown.push((' ', true)); // The place is the end of the line.
        }
        Some(Self::cut(&shown))
    }

    fn cut(shown: &[(char, bool)]) -> Self {
        let first = shown.iter().position(|(_, marked)| *marked).unwrap_or(0);
        let start = if shown.len() <= MAX_WIDTH { 0 } else { first.saturating_sub(MAX_WIDTH / 2).min(shown.len() - MAX_WIDTH) };
        let window = || shown.iter().skip(start).take(MAX_WIDTH);
        let line: String = window().map(|(c, _)| *c).collect();
        let underline: String = window().map(|(_, marked)| if *marked { '^' } else { ' ' }).collect();
        Self { line: line.trim_end().to_owned(), underline: underline.trim_end().to_owned() }
    }
}

/// What a terminal may be given in place of `c`: itself, unless the terminal would obey it.
pub(super) fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        // Bidirectional controls can make a line look like another one (CVE-2021-42574).
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        _ if c.is_control() => '\u{fffd}',
        _ => c,
    }
}

/// The lines of a text as YAML counts them (YAML 1.1, section 4.2: CR, LF, CR LF, NEL, LS and PS end a line).
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    iter::from_fn(move || {
        let current = rest?;
        let Some(end) = current.find(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']) else {
            rest = None;
            return Some(current);
        };
        let (line, after) = current.split_at(end);
        rest = after.strip_prefix("\r\n").or_else(|| after.get(after.chars().next()?.len_utf8()..));
        Some(line)
    })
}

/// Whether the value of a key with this name is a secret, by its name: `secret_access_key`, `password`; but not `secret_access_key_file`.
pub(super) fn names_a_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let bearing = ["secret", "password", "passwd", "passphrase", "token", "credential"];
    !key.ends_with("file") && (bearing.iter().any(|word| key.contains(word)) || key.ends_with("key") || key.ends_with("keys"))
}

/// A key as it may be shown: `password:abc`, for want of a blank, is a key whole.
pub(super) fn key_without_secret(key: &str) -> &str {
    key.split_once([':', '=']).filter(|(name, _)| names_a_secret(name.trim_end())).map_or(key, |(name, _)| name)
}

/// The end of the key or value that begins at `start`.
fn extent(chars: &[char], start: usize) -> usize {
    let from = |skip: usize| chars.iter().copied().enumerate().skip(start + skip);
    let end = match chars.get(start) {
        None => return start,
        Some('{' | '[' | '|' | '>' | '-' | ' ' | '\t') => start + 1,
        Some(quote @ ('"' | '\'')) => from(1).find(|(_, c)| c == quote).map_or(chars.len(), |(at, _)| at + 1),
        Some(_) => {
            let blank_or_end = |at: usize| chars.get(at).is_none_or(|c| c.is_whitespace());
            let ends = |(at, c): &(usize, char)| match c {
                ',' | '}' | ']' => true,
                ':' => blank_or_end(at + 1),
                '#' => at.checked_sub(1).is_some_and(blank_or_end),
                _ => false,
            };
            from(0).find(ends).map_or(chars.len(), |(at, _)| at)
        }
    };
    let blanks = chars.get(start..end).map_or(0, |token| token.iter().rev().take_while(|c| c.is_whitespace()).count());
    (end - blanks).max(start + 1)
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

/// The parts of a line that must not be shown: values of keys that name a secret, and the user part of a URL. In order, apart.
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
                let value = secret_value(chars, at + 1, depth > 0);
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
    found.extend(user_of_url(chars));
    found.retain(|range| !range.is_empty());
    found.sort_by_key(|range| range.start);
    found
}

/// The value that follows a secret's key, from `start`; empty where a mapping follows, whose own keys tell. In doubt, up to the end of the line.
fn secret_value(chars: &[char], start: usize, in_flow: bool) -> Range<usize> {
    let rest = || chars.iter().enumerate().skip(start);
    let first = rest().find(|(_, c)| !c.is_whitespace()).map_or(chars.len(), |(at, _)| at);
    let end = match chars.get(first) {
        Some('{') => first,
        Some('"' | '\'' | '[' | '&' | '!') | None => chars.len(),
        // A plain scalar within braces ends at these, whatever comes.
        Some(_) if in_flow => rest().find(|(_, c)| matches!(c, ',' | '}' | ']')).map_or(chars.len(), |(at, _)| at),
        Some(_) => chars.len(),
    };
    let blanks = chars.get(first..end).map_or(0, |value| value.iter().rev().take_while(|c| c.is_whitespace()).count());
    // Blanks at the end of the line stay in: whether a range ends with the line tells whether the secret may go on.
    first..(if end < chars.len() { end - blanks } else { end })
}

/// `user:password` of `https://user:password@host`.
fn user_of_url(chars: &[char]) -> Option<Range<usize>> {
    let slashes = chars.windows(3).position(|three| three == [':', '/', '/'])? + 3;
    let ends = |c: &char| c.is_whitespace() || matches!(c, '/' | '"' | '\'' | ',' | '}');
    let authority = chars.iter().skip(slashes).take_while(|c| !ends(c)).count() + slashes;
    let sign = chars.get(slashes..authority)?.iter().rposition(|c| *c == '@')? + slashes;
    Some(slashes..sign)
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
            // A block belongs to the key above it that is indented less.
            Some(Opening::Block) if begins < column => return true,
            Some(Opening::Mapping) if begins < column && !is_key(&own) => return true,
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
