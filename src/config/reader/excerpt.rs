//! The line of a fault, fit to be shown: without secrets, without control characters, not too long, and underlined.

use std::iter;

use super::faults::Place;
use super::secrets::{self, MASK};

/// Longer lines are cut around the fault.
const MAX_WIDTH: usize = 120;

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
        let masks = secrets::to_mask(lines, index);
        let underlined = at..extent(&chars, at);

        // Per character shown: the character, and whether it is underlined.
        let mut shown: Vec<(char, bool)> = Vec::new();
        let mut position = 0;
        while let Some(&c) = chars.get(position) {
            if let Some(mask) = masks.iter().find(|mask| mask.contains(&position)) {
                let underline = mask.start < underlined.end && underlined.start < mask.end;
                shown.extend(MASK.chars().map(|c| (c, underline)));
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
