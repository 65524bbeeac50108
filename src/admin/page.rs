//! The live page: one document with its style and script in it, and a policy under which no other one runs.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The document.
pub(super) const HTML: &str = include_str!("page.html");

/// Its `Content-Security-Policy` (W3C CSP3): this style and this script by their hashes, this origin to ask for figures, and nothing else. Text can't
/// become a script (`require-trusted-types-for`), and no other page can frame this one.
pub(super) fn policy() -> String {
    format!(
        "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        hash_of("style"),
        hash_of("script")
    )
}

/// The source expression for what stands in the one element of that name.
fn hash_of(element: &str) -> String {
    let content = HTML.split_once(&format!("<{element}>")).and_then(|(_, rest)| rest.split_once(&format!("</{element}>")));
    let hash = digest::digest(&digest::SHA256, content.map_or("", |(content, _)| content).as_bytes());
    format!("'sha256-{}'", STANDARD.encode(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_style_and_one_script_and_asks_nobody_else() {
        for element in ["style", "script"] {
            assert_eq!(HTML.matches(&format!("<{element}")).count(), 1, "{element}");
            assert_eq!(HTML.matches(&format!("<{element}>")).count(), 1, "{element} without attributes");
        }
        for outside in ["http:", "https:", "//cdn", "src=", "@import", "url("] {
            assert!(!HTML.contains(outside), "{outside}");
        }
    }

    #[test]
    fn the_page_makes_no_html_of_text_and_no_style_of_attributes() {
        for way in [
            "innerHTML",
            "insertAdjacentHTML",
            "document.write",
            "DOMParser",
            "srcdoc",
            "eval(",
            "Function(",
            "setTimeout(\"",
            " style=",
            " onclick=",
            "javascript:",
        ] {
            assert!(!HTML.contains(way), "{way}");
        }
    }
}
