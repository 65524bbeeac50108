//! A mapping, read key by key.

use super::document::Content;
use super::nearest::{expected_one_of, nearest};
use super::{Checked, FromValue, Value, scalars, secrets};

/// A mapping, key by key.
#[derive(Debug)]
pub(in super::super) struct Map<'a> {
    value: Value<'a>,
    entries: Vec<(&'a str, Value<'a>)>,
    asked: Vec<&'static str>,
}

impl<'a> Value<'a> {
    /// Its keys; text keys only, each once. Everything else about them is recorded.
    pub(in super::super) fn map(&self) -> Checked<Map<'a>> {
        let Content::Map(entries) = &self.node.content else {
            return self.unexpected("a mapping");
        };
        let mut map = Map { value: self.clone(), entries: Vec::new(), asked: Vec::new() };
        for (key, node) in entries {
            let Content::Text(name) = &key.content else {
                let help = "put it in quotes, so that YAML takes it as text";
                let _: Checked<()> = self.record(Some(key.id), "a key that is not text".to_owned(), Some(help.to_owned()));
                continue;
            };
            let dot = if self.path.is_empty() { "" } else { "." };
            let path = format!("{}{dot}{}", self.path, scalars::shorten(secrets::key_without_secret(name, self.last_key())));
            let value = Value { node, key: Some(key.id), path, reading: self.reading };
            if map.entries.iter().any(|(earlier, _)| earlier == name) {
                let _: Checked<()> = value.record(value.key, "given twice".to_owned(), Some("remove one of the two".to_owned()));
            } else {
                map.entries.push((name, value));
            }
        }
        Ok(map)
    }
}

impl<'a> Map<'a> {
    /// The value of `key`, if the key is there.
    pub(in super::super) fn value(&mut self, key: &'static str) -> Option<Value<'a>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.entries.iter().find(|(name, _)| *name == key).map(|(_, value)| value.clone())
    }

    /// The value of `key`. `example` is a value for the help where the key is missing.
    pub(in super::super) fn required<T: FromValue>(&mut self, key: &'static str, example: &str) -> Checked<T> {
        self.required_by(key, example, T::from_value)
    }

    /// The value of `key`, read by `read`.
    pub(in super::super) fn required_by<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&Value<'_>) -> Checked<T>,
    ) -> Checked<T> {
        match self.value(key) {
            Some(value) => read(&value),
            None => self.missing(key, format!("add `{key}: {example}`")),
        }
    }

    /// The value of `key`, or none.
    pub(in super::super) fn optional<T: FromValue>(&mut self, key: &'static str) -> Checked<Option<T>> {
        self.value(key).map(|value| T::from_value(&value)).transpose()
    }

    /// The value of `key`, or `default`.
    pub(in super::super) fn or<T: FromValue>(&mut self, key: &'static str, default: T) -> Checked<T> {
        self.value(key).map_or(Ok(default), |value| T::from_value(&value))
    }

    /// Records that `key` is missing.
    pub(in super::super) fn missing<T>(&self, key: &str, help: impl Into<String>) -> Checked<T> {
        // What is missing has no place; the key of the mapping that it is missing from is the nearest.
        let place = if self.value.path.is_empty() { None } else { Some(self.value.key.unwrap_or(self.value.node.id)) };
        self.value.record(place, format!("missing key `{key}`"), Some(help.into()))
    }

    /// Refuses a key that an operator may well think of, and says why.
    pub(in super::super) fn forbid(&mut self, key: &'static str, message: &str, help: &str) {
        if let Some(value) = self.value(key) {
            let _: Checked<()> = value.record(value.key, message.to_owned(), Some(help.to_owned()));
        }
        self.asked.retain(|asked| *asked != key);
        self.entries.retain(|(name, _)| *name != key);
    }

    /// The keys of the mapping under `key`; none where there is no such mapping.
    pub(in super::super) fn names_in(&self, key: &str) -> Vec<&'a str> {
        let Some((_, value)) = self.entries.iter().find(|(name, _)| *name == key) else { return Vec::new() };
        let Content::Map(entries) = &value.node.content else { return Vec::new() };
        entries.iter().filter_map(|(key, _)| if let Content::Text(name) = &key.content { Some(name.as_str()) } else { None }).collect()
    }

    /// Every key with its value, in the order of the file: for a mapping whose keys are names.
    pub(in super::super) fn named(&self) -> &[(&'a str, Value<'a>)] {
        &self.entries
    }

    /// Refuses every key that nobody asked for.
    pub(in super::super) fn finish(self) -> Checked<()> {
        let mut finished = Ok(());
        let (given, free): (Vec<&str>, Vec<&str>) = self.asked.iter().partition(|key| self.entries.iter().any(|(name, _)| name == *key));
        for (name, value) in self.entries.iter().filter(|(name, _)| !self.asked.contains(name)) {
            let help = if *name == "<<" {
                "merge keys are not part of YAML 1.2: write the keys out".to_owned()
            } else if name.split_once(':').is_some_and(|(key, _)| self.asked.contains(&key)) {
                "a colon needs a blank behind it".to_owned()
            } else if let Some(near) = nearest(name, &free) {
                format!("did you mean `{near}`?")
            } else if let Some(near) = nearest(name, &given) {
                format!("`{near}` is given too: remove one of the two")
            } else if free.is_empty() {
                "no other key is known here: remove it".to_owned()
            } else {
                expected_one_of(&free)
            };
            finished = value.record(value.key, "unknown key".to_owned(), Some(help));
        }
        finished
    }
}
