//! What somebody meant who wrote something else.

/// The one of `names` that `name` was most likely to be, if any is near.
pub(in super::super) fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let name = name.to_lowercase().replace('-', "_");
    let distance = |known: &str| {
        let plain = known.to_lowercase().replace('-', "_");
        let edits = strsim::damerau_levenshtein(&name, &plain);
        let extends = name.len() >= 3 && (plain.starts_with(&name) || (plain.len() >= 3 && name.starts_with(&plain)));
        // A third of the letters may be wrong, as for rustc; or the end may be left out.
        (edits <= name.len().max(plain.len()) / 3 || extends).then_some(edits)
    };
    names.iter().copied().filter_map(|known| Some((distance(known)?, known))).min().map(|(_, known)| known)
}

/// `a`, `b` and so on, in backticks.
pub(in super::super) fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The help that names what is valid.
pub(in super::super) fn expected_one_of(names: &[&str]) -> String {
    let one_of = if names.len() > 1 { "one of " } else { "" };
    format!("expected {one_of}{}", listed(names))
}

/// The help for a word that is none of `names`.
pub(in super::super) fn suggest(word: &str, names: &[&str]) -> String {
    nearest(word, names).map_or_else(|| expected_one_of(names), |near| format!("did you mean `{near}`?"))
}
