//! What stands behind the `?` of an operator's request.

use percent_encoding::percent_decode_str;

/// The parameters of a query, each known by name and given once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads a query (`application/x-www-form-urlencoded`; WHATWG URL, section 5.1) whose names are all among `known`. An empty value counts as none.
    ///
    /// # Errors
    /// For the operator, which parameter is wrong and what there is.
    pub(super) fn read(query: Option<&str>, known: &[&str]) -> Result<Self, String> {
        let mut read: Vec<(String, String)> = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            if !known.contains(&name.as_str()) {
                let names = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                return Err(format!("`{name}` is no parameter of this page; there are {names}"));
            }
            if read.iter().any(|(earlier, _)| *earlier == name) {
                return Err(format!("`{name}` is given twice"));
            }
            read.push((name, value));
        }
        Ok(Self(read))
    }

    /// The value of `name`.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, value)| found == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }
}

fn decoded(text: &str) -> Result<String, String> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().map(std::borrow::Cow::into_owned);
    decoded.map_err(|_| format!("`{text}` is not UTF-8 once decoded"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_known_and_given_once() {
        let read = |query| Parameters::read(Some(query), &["tenant", "by"]);
        let good = read("tenant=a%20b%2Fc+d&by=&").unwrap();
        assert_eq!((good.value("tenant"), good.value("by")), (Some("a b/c d"), None));
        assert_eq!(Parameters::read(None, &["tenant"]), Ok(Parameters::default()));
        assert_eq!(read("tennant=a"), Err("`tennant` is no parameter of this page; there are `tenant`, `by`".to_owned()));
        assert_eq!(read("by=a&by=b"), Err("`by` is given twice".to_owned()));
        assert_eq!(read("by=%ff"), Err("`%ff` is not UTF-8 once decoded".to_owned()));
    }
}
