//! `stage`: what a path begins with, and what differs by it.

use std::borrow::Cow;
use std::sync::Arc;

use super::super::reader::{Checked, FromValue, Name, Value, nearest};
use crate::domain::{CONTROL_SEGMENTS, RUNTIME_SEGMENTS, Service};

/// One stage, and its variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The first segment of the path, byte by byte.
    pub name: Arc<str>,
    /// What `${stage.NAME}` stands for, by the name.
    pub variables: Vec<(Arc<str>, Arc<str>)>,
}

/// Reads `stage`: a name, a list of names, or a mapping of names to variables.
pub(super) fn read(value: &Value<'_>) -> Checked<Vec<Stage>> {
    let bare = |Bare(name)| Stage { name, variables: Vec::new() };
    if value.is_list() {
        return Ok(value.distinct::<Bare>("stage")?.into_iter().map(bare).collect());
    }
    if !value.is_mapping() {
        return Bare::from_value(value).map(|name| vec![bare(name)]);
    }
    let map = value.map()?;
    if map.named().is_empty() {
        return value.refuse_with("needs at least one stage", "as in `{ beta: { where: usw2 } }`");
    }
    let stages: Vec<Checked<Stage>> = map.named().iter().map(|(name, value)| with_variables(name, value)).collect();
    stages.into_iter().collect()
}

fn with_variables(name: &str, value: &Value<'_>) -> Checked<Stage> {
    let fit = match unfit(name) {
        Some((message, help)) => value.refuse_key(&message, help),
        None => Ok(()),
    };
    let map = value.map()?;
    let variable = |(name, value): &(&str, Value<'_>)| {
        if !Name::is_valid(name) {
            return value.refuse_key("is not a valid name of a variable", Name::RULE);
        }
        Ok(((*name).into(), value.text()?.into()))
    };
    let variables: Vec<Checked<_>> = map.named().iter().map(variable).collect();
    fit?;
    Ok(Stage { name: name.into(), variables: variables.into_iter().collect::<Checked<_>>()? })
}

/// The name of a stage.
#[derive(PartialEq)]
struct Bare(Arc<str>);

impl FromValue for Bare {
    fn from_value(value: &Value<'_>) -> Checked<Self> {
        let text = value.text()?;
        if let Some((message, help)) = unfit(text) {
            return value.refuse_with(message, help);
        }
        Ok(Self(text.into()))
    }
}

/// Why no stage can be called so, and what to do.
fn unfit(name: &str) -> Option<(String, &'static str)> {
    const TAKEN: &str = "give it another name: its calls would be taken from there";
    if !Name::is_valid(name) {
        return Some(("is not a valid name of a stage".to_owned(), Name::RULE));
    }
    if Service::by_prefix(name).is_some() {
        return Some((format!("`{name}` is a service, which paths may begin with"), TAKEN));
    }
    let is_path = RUNTIME_SEGMENTS.iter().chain(&CONTROL_SEGMENTS).any(|segment| *segment == name);
    is_path.then(|| (format!("paths of Bedrock begin with `/{name}`"), TAKEN))
}

/// What is no variable.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unknown<'t>(&'t str);

/// A text with the variables of its stage put in: `${stage}` and `${stage.NAME}`.
pub(super) fn substitute<'t>(text: &'t str, stage: Option<&Stage>) -> Result<Cow<'t, str>, Unknown<'t>> {
    let Some((before, mut rest)) = text.split_once("${") else { return Ok(text.into()) };
    let mut whole = before.to_owned();
    loop {
        let (name, after) = rest.split_once('}').ok_or(Unknown(rest))?;
        whole.push_str(stage.and_then(|stage| stage.variable(name)).ok_or(Unknown(name))?);
        let Some((between, more)) = after.split_once("${") else {
            whole.push_str(after);
            return Ok(whole.into());
        };
        whole.push_str(between);
        rest = more;
    }
}

impl Stage {
    fn variable(&self, reference: &str) -> Option<&str> {
        if reference == "stage" {
            return Some(&self.name);
        }
        let wanted = reference.strip_prefix("stage.")?;
        self.variables.iter().find(|(name, _)| **name == *wanted).map(|(_, text)| &**text)
    }
}

impl Unknown<'_> {
    /// Refuses `value`, in which it stands.
    pub(super) fn refuse<T>(&self, value: &Value<'_>, stage: Option<&Stage>) -> Checked<T> {
        let Self(name) = self;
        let Some(variable) = name.strip_prefix("stage.") else {
            let message =
                if *name == "stage" { "the route has no `stage`".to_owned() } else { format!("`${{{name}}}` stands for nothing") };
            return value.refuse_with(message, "`${stage}` is the name of the route's stage, and `${stage.NAME}` a variable of it");
        };
        let Some(stage) = stage else {
            let help = format!("as in `stage: {{ beta: {{ {variable}: … }} }}`");
            return value.refuse_with(format!("the route has no `stage`, which could have a variable `{variable}`"), help);
        };
        let names: Vec<&str> = stage.variables.iter().map(|(name, _)| &**name).collect();
        let help = nearest(variable, &names)
            .map_or_else(|| format!("add it: `{}: {{ {variable}: … }}`", stage.name), |near| format!("did you mean `${{stage.{near}}}`?"));
        value.refuse_with(format!("the stage `{}` has no variable `{variable}`", stage.name), help)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_put_in_wherever_they_stand() {
        let beta = Stage { name: "beta".into(), variables: vec![("where".into(), "usw2".into()), ("geo".into(), "us".into())] };
        for (text, whole) in [
            ("use1", Ok("use1")),
            ("${stage.where}", Ok("usw2")),
            ("${stage.geo}.amazon.nova-${stage}-v1:0", Ok("us.amazon.nova-beta-v1:0")),
            ("$stage {stage} $", Ok("$stage {stage} $")),
            ("${stage.none}", Err(Unknown("stage.none"))),
            ("${stage}${", Err(Unknown(""))),
            ("${stage", Err(Unknown("stage"))),
            ("${STAGE}", Err(Unknown("STAGE"))),
            ("${stage.${stage.geo}}", Err(Unknown("stage.${stage.geo"))),
        ] {
            assert_eq!(substitute(text, Some(&beta)), whole.map(Cow::Borrowed), "{text}");
        }
        assert_eq!(substitute("${stage}", None), Err(Unknown("stage")));
    }
}
