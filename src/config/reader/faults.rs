//! Everything that is wrong with one file, for a person to read.

use std::fmt;
use std::path::{Path, PathBuf};

use super::excerpt::{self, Excerpt};
use super::{Finding, document};

/// More than these are counted, not shown: one slip of indentation can make a fault of every line below it.
const SHOWN: usize = 50;

/// All faults of one file, in the order of its lines. `Display` renders them for a terminal; no value of a secret-bearing key is ever in it.
#[derive(Clone, Debug)]
pub struct Faults {
    file: PathBuf,
    found: Vec<Fault>,
    unshown: usize,
}

/// One fault.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Where it is; none where something is missing from the file as a whole, or the file can't be read.
    pub place: Option<Place>,
    /// The path to the key, as in `limits[0].rate`; empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    excerpt: Option<Excerpt>,
}

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl Faults {
    /// Finds the places of the findings (at least one) in the text that they were made in.
    pub(super) fn locate(file: &Path, text: &str, mut findings: Vec<Finding>) -> Self {
        // Nodes are numbered in the order of the text: no need to find every place just to sort by it.
        findings.sort_by_key(|finding| finding.node);
        let unshown = findings.len().saturating_sub(SHOWN);
        findings.truncate(SHOWN);
        let lines: Vec<&str> = excerpt::lines(text).collect();
        let fault = |finding: Finding| {
            let place = finding.node.and_then(|node| document::locate(text, node));
            Fault {
                place,
                path: finding.path,
                message: finding.message,
                help: finding.help,
                excerpt: place.and_then(|place| Excerpt::new(&lines, place)),
            }
        };
        let mut faults: Vec<Fault> = findings.into_iter().map(fault).collect();
        // Stable, and needed where an alias leads back up.
        faults.sort_by_key(|fault| fault.place);
        Self { file: file.to_owned(), found: faults, unshown }
    }

    /// The one fault of a text that is no YAML.
    pub(super) fn unreadable(file: &Path, text: &str, why: document::Unreadable) -> Self {
        let lines: Vec<&str> = excerpt::lines(text).collect();
        let excerpt = why.place.and_then(|place| Excerpt::new(&lines, place));
        let fault = Fault { place: why.place, path: String::new(), message: why.message, help: why.help.map(str::to_owned), excerpt };
        Self { file: file.to_owned(), found: vec![fault], unshown: 0 }
    }

    /// The one fault of a file as a whole.
    pub(super) fn of_file(file: &Path, message: String, help: Option<&str>) -> Self {
        let fault = Fault { place: None, path: String::new(), message, help: help.map(str::to_owned), excerpt: None };
        Self { file: file.to_owned(), found: vec![fault], unshown: 0 }
    }

    /// The faults, in the order of the lines; at least one, at most 50.
    #[must_use]
    pub fn all(&self) -> &[Fault] {
        &self.found
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number_width = self.found.iter().filter_map(|fault| fault.place).map(|place| place.line.to_string().len()).max().unwrap_or(1);
        for fault in &self.found {
            write!(f, "{}", self.file.display())?;
            if let Some(place) = fault.place {
                write!(f, ":{}:{}", place.line, place.column)?;
            }
            if !fault.path.is_empty() {
                write!(f, ": {}", Printable(&fault.path))?;
            }
            writeln!(f, ": {}", Printable(&fault.message))?;
            if let (Some(place), Some(excerpt)) = (fault.place, &fault.excerpt) {
                writeln!(f, "{:number_width$} |", "")?;
                writeln!(f, "{:number_width$} | {}", place.line, excerpt.line)?;
                writeln!(f, "{:number_width$} | {}", "", excerpt.underline)?;
            }
            if let Some(help) = &fault.help {
                writeln!(f, "{:number_width$} = help: {}", "", Printable(help))?;
            }
            writeln!(f)?;
        }
        match (self.found.len(), self.unshown) {
            (1, 0) => write!(f, "1 fault in {}", self.file.display()),
            (shown, 0) => write!(f, "{shown} faults in {}", self.file.display()),
            (shown, more) => write!(f, "{} faults in {}, of which these are the first {shown}", shown + more, self.file.display()),
        }
    }
}

impl std::error::Error for Faults {}

/// Text from a file on its way to a terminal, which must not obey it.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| fmt::Write::write_char(f, excerpt::printable(c)))
    }
}
