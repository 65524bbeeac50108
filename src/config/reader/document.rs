//! YAML text as a tree whose nodes can be found again in the text.
//!
//! `serde_yaml` keeps no marks in what it returns, but gives an error the mark of the value that raised it. So one and the same walk reads
//! the tree, numbering its nodes in the order of the text, and finds the place of a number later by walking again and failing there.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::faults::Place;

/// Keys and values together, anchors expanded. A hand-written file of 1 MiB holds fewer; "billion laughs" holds more.
const MAX_NODES: usize = 100_000;
/// All texts together, in bytes, anchors expanded.
const MAX_TEXT: usize = 4 << 20;

/// A key or a value.
#[derive(Debug)]
pub(super) struct Node {
    /// Its number in the order of the text; the document itself is 0.
    pub(super) id: usize,
    pub(super) content: Content,
}

/// What a node holds, as YAML 1.2's core schema resolves it.
#[derive(Debug)]
pub(super) enum Content {
    Nothing,
    Bool(bool),
    Whole(u64),
    /// Any other number, as written: negative, fractional or beyond 64 bits.
    Number(String),
    Text(String),
    List(Vec<Node>),
    /// In the order of the text; keys are of any kind and may repeat.
    Map(Vec<(Node, Node)>),
    /// A value of an application's own type: `!name value`.
    Tagged,
}

/// Why the text is no single YAML document within the bounds.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) place: Option<Place>,
    pub(super) message: String,
    pub(super) help: Option<&'static str>,
}

impl Node {
    /// Reads the one document that `text` is to hold.
    pub(super) fn read(text: &str) -> Result<Self, Unreadable> {
        let mut documents = serde_yaml::Deserializer::from_str(text);
        let Some(first) = documents.next() else {
            return Ok(Self { id: 0, content: Content::Nothing });
        };
        let mut walk = Walk::default();
        let mut root = walk.deserialize(first).map_err(|error| walk.explain(&error, text))?;
        if !walk.numbers.is_empty()
            && let Some(again) = serde_yaml::Deserializer::from_str(text).next()
        {
            let mut walk = Walk { as_written: walk.numbers, ..Walk::default() };
            root = walk.deserialize(again).map_err(|error| walk.explain(&error, text))?;
        }
        if let Some((place, name)) = redefined_anchor(text) {
            let message = format!("the anchor `&{name}` is defined twice");
            return Err(Unreadable { place: Some(place), message, help: Some("give each anchor a name of its own") });
        }
        match documents.next() {
            None => Ok(root),
            Some(second) => Err(Unreadable {
                place: Walk::until(0).deserialize(second).err().as_ref().and_then(place),
                message: "a second document begins".to_owned(),
                help: Some("one file holds one configuration: remove the `---` and what follows it"),
            }),
        }
    }
}

/// Where in `text` the node numbered `id` begins.
pub(super) fn locate(text: &str, id: usize) -> Option<Place> {
    let document = serde_yaml::Deserializer::from_str(text).next()?;
    Walk::until(id).deserialize(document).err().as_ref().and_then(place)
}

/// An anchor that is defined a second time. YAML allows it, but `serde_yaml` 0.9.34 numbers anchors by how many names there are, and an alias
/// that comes later may then stand for another anchor's value. Found by its looks: `&name` in the middle of a text counts too.
fn redefined_anchor(text: &str) -> Option<(Place, &str)> {
    let mut names = HashSet::new();
    for (index, line) in super::excerpt::lines(text).enumerate() {
        let code = if line.starts_with('#') { "" } else { line.split_once(" #").map_or(line, |(code, _)| code) };
        for (at, _) in code.match_indices('&') {
            let (before, after) = code.split_at_checked(at)?;
            let name = after.strip_prefix('&')?.split([' ', '\t', ',', '[', ']', '{', '}']).next()?;
            if name.is_empty() || !before.is_empty() && !before.ends_with([' ', '\t', ',', '[', '{', ':']) {
                continue;
            }
            if !names.insert(name) {
                return Some((Place { line: index + 1, column: before.chars().count() + 1 }, name));
            }
        }
    }
    None
}

fn place(error: &serde_yaml::Error) -> Option<Place> {
    error.location().map(|location| Place { line: location.line(), column: location.column() })
}

/// The one walk over the text. `serde_yaml` gives a fraction as a float, which is not what was written: a second walk takes the text of every one.
#[derive(Default)]
struct Walk {
    nodes: usize,
    text: usize,
    /// The numbers met whose text was not given, ascending.
    numbers: Vec<usize>,
    /// Those to ask the text of, ascending.
    as_written: Vec<usize>,
    /// Fail at this node, on purpose.
    until: Option<usize>,
    exhausted: bool,
}

impl Walk {
    fn until(id: usize) -> Self {
        Self { until: Some(id), ..Self::default() }
    }

    fn enter<E: Error>(&mut self, content_bytes: usize) -> Result<usize, E> {
        let id = self.nodes;
        self.nodes += 1;
        self.text = self.text.saturating_add(content_bytes);
        self.exhausted = id >= MAX_NODES || self.text > MAX_TEXT;
        if self.exhausted || self.until == Some(id) { Err(E::custom("stopped")) } else { Ok(id) }
    }

    fn leaf<E: Error>(&mut self, content: Content) -> Result<Node, E> {
        Ok(Node { id: self.enter(0)?, content })
    }

    fn number<E: Error>(&mut self) -> Result<Node, E> {
        let id = self.enter(0)?;
        self.numbers.push(id);
        Ok(Node { id, content: Content::Number(String::new()) })
    }

    fn explain(&self, error: &serde_yaml::Error, text: &str) -> Unreadable {
        let place = place(error);
        let shown = error.to_string();
        let (problem, rest) = shown.split_once(" at line ").unwrap_or((&shown, ""));
        if self.exhausted || problem.ends_with("repetition limit exceeded") {
            let message = format!("more than {MAX_NODES} keys and values, or {} MiB of text, with anchors expanded", MAX_TEXT >> 20);
            return Unreadable { place, message, help: Some("repeat anchors less often") };
        }
        let message = if problem.contains("invalid value: ") || problem.contains("invalid type: ") {
            // serde_yaml quotes the value here, and it may be a secret.
            "not valid YAML: the value is not of the kind that its tag names".to_owned()
        } else if problem.ends_with("recursion limit exceeded") {
            "nested more than 128 levels deep, or an anchor within itself".to_owned()
        } else if let Some((_, context)) = rest.split_once(", ") {
            format!("not valid YAML: {problem}, {context}")
        } else {
            format!("not valid YAML: {problem}")
        };
        Unreadable { place, message, help: place.and_then(|place| advice(text, place, problem)) }
    }
}

/// What an operator most likely meant where YAML breaks off.
fn advice(text: &str, place: Place, problem: &str) -> Option<&'static str> {
    let line = super::excerpt::lines(text).nth(place.line.checked_sub(1)?)?;
    if line.contains("[::") && !line.contains("\"[::") && !line.contains("'[::") {
        return Some("an address with brackets needs quotes: \"[::]:8080\"");
    }
    match line.chars().nth(place.column.checked_sub(1)?) {
        Some('\t') => Some("YAML is indented with spaces, not with tabs"),
        Some('@' | '`' | '%' | '*' | '&') => Some("a value that begins with this character needs quotes"),
        _ if problem.starts_with("mapping values are not allowed") => {
            Some("a value that holds `: ` needs quotes; a key needs its own line")
        }
        _ => None,
    }
}

impl<'de> DeserializeSeed<'de> for &mut Walk {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        if self.as_written.binary_search(&self.nodes).is_ok() {
            deserializer.deserialize_str(self)
        } else {
            deserializer.deserialize_any(self)
        }
    }
}

impl<'de> Visitor<'de> for &mut Walk {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        self.leaf(Content::Nothing)
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        self.leaf(Content::Nothing)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        self.leaf(Content::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        self.leaf(Content::Whole(value))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Node, E> {
        self.number()
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Node, E> {
        self.number()
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Node, E> {
        self.number()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Node, E> {
        self.number()
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        let id = self.enter(value.len())?;
        let text = value.to_owned();
        let content = if self.as_written.binary_search(&id).is_ok() { Content::Number(text) } else { Content::Text(text) };
        Ok(Node { id, content })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let id = self.enter(0)?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(&mut *self)? {
            list.push(item);
        }
        Ok(Node { id, content: Content::List(list) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let id = self.enter(0)?;
        let mut map = Vec::new();
        while let Some(key) = entries.next_key_seed(&mut *self)? {
            map.push((key, entries.next_value_seed(&mut *self)?));
        }
        Ok(Node { id, content: Content::Map(map) })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Node, A::Error> {
        let id = self.enter(0)?;
        let (IgnoredAny, value) = tagged.variant()?;
        // Nothing takes a tagged value, so what is in it need not be kept.
        let IgnoredAny = value.newtype_variant()?;
        Ok(Node { id, content: Content::Tagged })
    }
}
