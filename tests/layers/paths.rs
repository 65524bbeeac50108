//! Which paths a file refers to, written out from the crate's root.

use super::lexer::{Token, tokens};
use super::rules::Source;

/// One path of another module or of Pingora: `["crate", "limits", "Bucket"]`, `["pingora_core", "upstreams"]`.
#[derive(Debug)]
pub(crate) struct Reference {
    pub(crate) line: usize,
    pub(crate) path: Vec<String>,
}

/// Every path to this crate or to a Pingora crate that `source` names outside its tests.
pub(crate) fn references(source: &Source) -> Vec<Reference> {
    let module: Vec<String> =
        source.path.trim_end_matches(".rs").split('/').filter(|part| !matches!(*part, "mod" | "lib" | "main")).map(str::to_owned).collect();
    let mut reader =
        Reader { tokens: tokens(&source.text), at: 0, depth: 0, file: module, inline: Vec::new(), configs: Vec::new(), out: Vec::new() };
    reader.run();
    reader.out
}

struct Reader {
    tokens: Vec<(usize, Token)>,
    at: usize,
    /// Open braces here.
    depth: usize,
    /// The module that the file is.
    file: Vec<String>,
    /// Modules opened inside the file, with the depth that each began at.
    inline: Vec<(usize, String)>,
    /// The names under which the file has imported `crate::config` whole, as rooms do whose own words are the same.
    configs: Vec<String>,
    out: Vec<Reference>,
}

impl Reader {
    fn token(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead).map(|(_, token)| token)
    }

    fn word(&self, ahead: usize) -> Option<&str> {
        match self.token(ahead) {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    fn is(&self, ahead: usize, mark: char) -> bool {
        self.token(ahead) == Some(&Token::Mark(mark))
    }

    fn separator(&self, ahead: usize) -> bool {
        self.token(ahead) == Some(&Token::Separator)
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at).map_or(0, |(line, _)| *line)
    }

    /// `#[cfg(test)]`, or with `inner` the `#![cfg(test)]` that exempts a whole file.
    fn is_cfg_test(&self, inner: bool) -> bool {
        let skip = usize::from(inner);
        self.is(0, '#')
            && (!inner || self.is(1, '!'))
            && self.is(skip + 1, '[')
            && self.word(skip + 2) == Some("cfg")
            && self.is(skip + 3, '(')
            && self.word(skip + 4) == Some("test")
            && self.is(skip + 5, ')')
            && self.is(skip + 6, ']')
    }

    fn run(&mut self) {
        if self.is_cfg_test(true) {
            return;
        }
        while self.at < self.tokens.len() {
            if self.is_cfg_test(false) {
                self.at += 7;
                self.skip_item();
                continue;
            }
            match self.token(0) {
                Some(Token::Mark('{')) => self.depth += 1,
                Some(Token::Mark('}')) => {
                    self.depth = self.depth.saturating_sub(1);
                    self.inline.retain(|(began, _)| *began < self.depth);
                }
                Some(Token::Word(word)) => match word.as_str() {
                    "mod" if self.is(2, '{') => {
                        let name = self.word(1).unwrap_or_default().to_owned();
                        self.inline.push((self.depth, name));
                        self.at += 1;
                    }
                    // Files of this name are exempt (see `rules`), so they must be tests in truth.
                    "mod" if self.word(1) == Some("tests") && self.is(2, ';') => {
                        self.out.push(Reference { line: self.line(), path: vec!["mod tests".to_owned()] });
                    }
                    "extern" if self.word(1) == Some("crate") => {
                        self.at += 2;
                        let path = vec![self.word(0).unwrap_or_default().to_owned()];
                        self.found(self.line(), path);
                    }
                    // `use<'a>` of a return type is no import.
                    "use" if !self.is(1, '<') => {
                        self.at += 1;
                        self.use_tree(&[]);
                        continue;
                    }
                    _ if self.separator(1) => {
                        self.inline_path();
                        continue;
                    }
                    _ => {}
                },
                _ => {}
            }
            self.at += 1;
        }
    }

    /// Steps over the item after `#[cfg(test)]`. What is not clearly an item (a field, an arm) is not stepped over: it is checked.
    fn skip_item(&mut self) {
        while self.is(0, '#') && self.is(1, '[') {
            self.at += 1;
            self.skip_group('[', ']');
        }
        if self.word(0) == Some("pub") {
            self.at += 1;
            if self.is(0, '(') {
                self.skip_group('(', ')');
            }
        }
        let item = ["mod", "use", "fn", "impl", "struct", "enum", "const", "static", "type", "trait", "async", "unsafe", "macro_rules"];
        if !self.word(0).is_some_and(|word| item.contains(&word)) {
            return;
        }
        while self.at < self.tokens.len() {
            if self.is(0, '{') {
                self.skip_group('{', '}');
                return;
            }
            self.at += 1;
            if self.tokens.get(self.at - 1).is_some_and(|(_, token)| *token == Token::Mark(';')) {
                return;
            }
        }
    }

    /// Steps over a bracketed group that begins here.
    fn skip_group(&mut self, open: char, close: char) {
        let mut depth = 0;
        while self.at < self.tokens.len() {
            if self.is(0, open) {
                depth += 1;
            } else if self.is(0, close) {
                depth -= 1;
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }

    /// Reads one branch of a `use` tree, up to its `,`, `}` or `;`, which is left.
    fn use_tree(&mut self, prefix: &[String]) {
        let mut path = prefix.to_vec();
        let line = self.line();
        let mut name = None;
        loop {
            match self.token(0).cloned() {
                Some(Token::Word(word)) if word == "as" => {
                    name = self.word(1).map(str::to_owned);
                    self.at += 2;
                    continue;
                }
                Some(Token::Word(word)) if word == "self" && !path.is_empty() => {}
                Some(Token::Word(word)) => path.push(word),
                Some(Token::Separator) => {}
                Some(Token::Mark('*')) => path.push("*".to_owned()),
                Some(Token::Mark('{')) => {
                    self.at += 1;
                    while self.at < self.tokens.len() && !self.is(0, '}') {
                        let before = self.at;
                        self.use_tree(&path);
                        if self.is(0, ',') || self.at == before {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                _ => break,
            }
            self.at += 1;
        }
        if matches!(path.as_slice(), [first, second] if first == "crate" && second == "config") {
            self.configs.push(name.unwrap_or_else(|| "config".to_owned()));
        }
        self.found(line, path);
    }

    fn inline_path(&mut self) {
        let line = self.line();
        let mut path = Vec::new();
        while let Some(word) = self.word(0) {
            path.push(word.to_owned());
            self.at += 1;
            if !(self.separator(0) && self.word(1).is_some()) {
                break;
            }
            self.at += 1;
        }
        self.found(line, path);
    }

    /// Keeps the path when it leads into this crate or into Pingora.
    fn found(&mut self, line: usize, path: Vec<String>) {
        let Some(first) = path.first() else { return };
        let path = match first.as_str() {
            // The binary knows the library by the package's name.
            "crate" | "tollgate" => [vec!["crate".to_owned()], path[1..].to_vec()].concat(),
            "self" | "super" => {
                let mut module: Vec<String> = self.file.iter().chain(self.inline.iter().map(|(_, name)| name)).cloned().collect();
                let mut rest = path.as_slice();
                while let Some((word, after)) = rest.split_first() {
                    match word.as_str() {
                        "self" => {}
                        "super" => drop(module.pop()),
                        _ => break,
                    }
                    rest = after;
                }
                [vec!["crate".to_owned()], module, rest.to_vec()].concat()
            }
            name if self.configs.iter().any(|config| config == name) => {
                [vec!["crate".to_owned(), "config".to_owned()], path[1..].to_vec()].concat()
            }
            name if name == "pingora" || name.starts_with("pingora_") => path,
            _ => return,
        };
        self.out.push(Reference { line, path });
    }
}
