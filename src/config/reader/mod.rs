//! How a section reads its part of gateway.yaml.
//!
//! A section asks a [`Map`] for its keys, each with the type that it is to become; [`Map::finish`] then refuses every key that nobody asked
//! for. What is wrong is recorded where it is found, and reading goes on: an operator sees every fault of a file at once. [`Reported`] is the
//! proof that a fault was recorded; whoever gets one has nothing to add.

mod decimal;
mod document;
mod excerpt;
mod faults;
mod map;
mod nearest;
mod scalars;
mod secrets;

use std::cell::RefCell;
use std::path::Path;

pub(super) use self::decimal::{NotDecimal, decimal};
use self::document::{Content, Node};
pub use self::faults::{Fault, Faults, Place};
pub(super) use self::map::Map;
pub(super) use self::nearest::{expected_one_of, listed, nearest, suggest};
pub use self::scalars::Scalar;
pub(super) use self::scalars::{ByteSize, Name, Numeral, parts_in_a_million};
#[cfg(test)]
pub(super) use self::secrets::names_a_secret;

/// The largest file that is read: a slip of the path shall not fill the memory.
const MAX_FILE: u64 = 1 << 20;

/// Something was wrong, and it is recorded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported(());

/// A value, or the proof that a fault was recorded.
pub(super) type Checked<T> = Result<T, Reported>;

/// A type that one value of the file becomes.
pub(super) trait FromValue: Sized {
    /// Reads it, or records what is wrong with it.
    fn from_value(value: &Value<'_>) -> Checked<Self>;
}

/// The text of a file of at most 1 MiB.
pub(super) fn text_of(file: &Path) -> Result<String, Faults> {
    use std::io::Read as _;

    let unreadable = |error: std::io::Error| Faults::of_file(file, format!("can't be read: {error}"), None);
    let mut bytes = Vec::new();
    std::fs::File::open(file).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = excerpt::lines(std::str::from_utf8(valid).unwrap_or_default()).count();
        Faults::of_file(file, format!("line {line} is not UTF-8"), Some("save the file as UTF-8"))
    })
}

/// Reads `text` by `read`; `file` is what faults are shown under, and its directory what relative paths start from.
pub(super) fn read<T>(text: &str, file: &Path, read: impl FnOnce(&Value<'_>) -> Checked<T>) -> Result<T, Faults> {
    if text.len() as u64 > MAX_FILE {
        let message = format!("larger than {MAX_FILE} bytes");
        return Err(Faults::of_file(file, message, Some("is it the right file?")));
    }
    // Some editors begin a file with a byte order mark, and YAML would count it as a column.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let root = Node::read(text).map_err(|why| Faults::unreadable(file, text, why))?;
    if matches!(root.content, Content::Nothing) {
        return Err(Faults::of_file(
            file,
            "holds no configuration".to_owned(),
            Some("start from the gateway.yaml that comes with Tollgate"),
        ));
    }
    let reading = Reading { directory: file.parent().unwrap_or(Path::new("")), findings: RefCell::new(Vec::new()) };
    let config = read(&Value { node: &root, key: None, path: String::new(), reading: &reading });
    let findings = reading.findings.into_inner();
    match config {
        Ok(config) if findings.is_empty() => Ok(config),
        _ => Err(Faults::locate(file, text, findings)),
    }
}

/// What is shared while one file is read.
#[derive(Debug)]
struct Reading<'a> {
    directory: &'a Path,
    findings: RefCell<Vec<Finding>>,
}

/// A fault whose place is not yet looked up.
#[derive(Debug)]
struct Finding {
    /// None: the file as a whole.
    node: Option<usize>,
    path: String,
    message: String,
    help: Option<String>,
}

/// One value of the file, with the way to it.
#[derive(Clone, Debug)]
pub(super) struct Value<'a> {
    node: &'a Node,
    /// The node of the key that it stands under.
    key: Option<usize>,
    path: String,
    reading: &'a Reading<'a>,
}

impl<'a> Value<'a> {
    /// Records a fault of this value.
    pub(super) fn refuse<T>(&self, message: impl Into<String>) -> Checked<T> {
        self.record(Some(self.node.id), message.into(), None)
    }

    /// Records a fault of this value, and what to do about it.
    pub(super) fn refuse_with<T>(&self, message: impl Into<String>, help: impl Into<String>) -> Checked<T> {
        self.record(Some(self.node.id), message.into(), Some(help.into()))
    }

    fn record<T>(&self, node: Option<usize>, message: String, help: Option<String>) -> Checked<T> {
        self.reading.findings.borrow_mut().push(Finding { node, path: self.path.clone(), message, help });
        Err(Reported(()))
    }

    /// Records a fault of the key that this value stands under.
    pub(super) fn refuse_key<T>(&self, message: &str, help: &str) -> Checked<T> {
        self.record(self.key, message.to_owned(), Some(help.to_owned()))
    }

    /// Refuses a `name` in this mapping that is among `taken`, each with the path of who has it; else adds it.
    pub(super) fn claim_name(&self, taken: &mut Vec<(String, String)>) -> Checked<()> {
        let Content::Map(entries) = &self.node.content else { return Ok(()) };
        let is_name = |key: &Node| matches!(&key.content, Content::Text(text) if text == "name");
        let Some((key, node)) = entries.iter().find(|(key, _)| is_name(key)) else { return Ok(()) };
        let Content::Text(name) = &node.content else { return Ok(()) };
        if let Some((_, owner)) = taken.iter().find(|(earlier, _)| earlier == name) {
            let value = Value { node, key: Some(key.id), path: format!("{}.name", self.path), reading: self.reading };
            return value.refuse_with(format!("{} is the name of `{owner}` too", value.quoted()), "give each a name of its own");
        }
        taken.push((name.clone(), self.path.clone()));
        Ok(())
    }

    /// Where it stands in the file, as in `limits[0].rate`.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The key that it stands under, perhaps as an item of a list.
    fn last_key(&self) -> &str {
        let key = self.path.rsplit('.').next().unwrap_or_default();
        key.split('[').next().unwrap_or_default()
    }

    /// The directory that relative paths start from.
    fn directory(&self) -> &'a Path {
        self.reading.directory
    }

    /// The text, if it is one.
    pub(super) fn as_text(&self) -> Option<&'a str> {
        if let Content::Text(text) = &self.node.content { Some(text) } else { None }
    }

    /// Whether it is `false`.
    pub(super) fn is_false(&self) -> bool {
        matches!(self.node.content, Content::Bool(false))
    }

    /// Whether it is `true` or `false`.
    pub(super) fn is_switch(&self) -> bool {
        matches!(self.node.content, Content::Bool(_))
    }

    /// Whether it is a list.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.node.content, Content::List(_))
    }

    /// Whether it is a mapping.
    pub(super) fn is_mapping(&self) -> bool {
        matches!(self.node.content, Content::Map(_))
    }

    /// The items of a list, perhaps none.
    pub(super) fn items(&self) -> Checked<Vec<Self>> {
        let Content::List(nodes) = &self.node.content else {
            return self.unexpected("a list");
        };
        let item = |(index, node)| Self { node, key: None, path: format!("{}[{index}]", self.path), reading: self.reading };
        Ok(nodes.iter().enumerate().map(item).collect())
    }

    /// The items of a list, perhaps none, every one with a `name` of its own. All of them are read, so that every fault is told.
    pub(super) fn named_items<T: FromValue>(&self) -> Checked<Vec<T>> {
        let mut names = Vec::new();
        let read = |item: &Self| {
            let one = T::from_value(item);
            item.claim_name(&mut names)?;
            one
        };
        let all: Vec<Checked<T>> = self.items()?.iter().map(read).collect();
        all.into_iter().collect()
    }

    /// The items of a list, at least one: `what` says of what.
    pub(super) fn some_items(&self, what: &str) -> Checked<Vec<Self>> {
        let items = self.items()?;
        if items.is_empty() { self.refuse(format!("needs at least one {what}")) } else { Ok(items) }
    }

    /// The items of a list, at least one, each once: `what` says of what.
    pub(super) fn distinct<T: FromValue + PartialEq>(&self, what: &str) -> Checked<Vec<T>> {
        let mut seen = Vec::new();
        let mut all = Ok(());
        for item in self.some_items(what)? {
            match T::from_value(&item) {
                Ok(one) if seen.contains(&one) => all = item.refuse(format!("{} is named twice", item.quoted())),
                Ok(one) => seen.push(one),
                Err(reported) => all = Err(reported),
            }
        }
        all.map(|()| seen)
    }

    /// Records that the value is of the wrong kind; `expected` is a phrase such as "a list".
    fn unexpected<T>(&self, expected: &str) -> Checked<T> {
        let (found, help) = match (&self.node.content, expected) {
            (Content::Nothing, "a list") => ("nothing", Some("remove the key, or write `[]`")),
            (Content::Nothing, _) => ("nothing", Some("remove the key, or give it a value")),
            (Content::Bool(_), "text") => ("true or false", Some("put it in quotes, so that YAML takes it as text")),
            (Content::Whole(_) | Content::Number(_), "text") => ("a number", Some("put it in quotes, so that YAML takes it as text")),
            (Content::Bool(_), _) => ("true or false", None),
            (Content::Whole(_) | Content::Number(_), _) => ("a number", None),
            (Content::Map(_), "a list") => ("a mapping", Some("begin each item with `- `")),
            (Content::Text(_), "a list") => ("text", Some("put it in brackets: `[…]`")),
            (Content::Text(_), "`true` or `false`") => ("text", Some("without quotes; `yes`, `no`, `on` and `off` are text in YAML 1.2")),
            (Content::Text(_), _) => ("text", None),
            (Content::List(_), _) => ("a list", None),
            (Content::Map(_), _) => ("a mapping", None),
            (Content::Tagged, _) => ("a value with a tag", Some("tags such as `!name` mean nothing here")),
        };
        // A value that isn't there has no place of its own.
        let key = self.key.filter(|_| matches!(self.node.content, Content::Nothing));
        self.record(Some(key.unwrap_or(self.node.id)), format!("expected {expected}, found {found}"), help.map(str::to_owned))
    }
}
