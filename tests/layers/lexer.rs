//! Just enough of Rust's lexical grammar to find paths: comments, strings and lifetimes are gone, every token knows its line.

/// A token that matters for paths. Numbers come as words; literals do not come at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Word(String),
    /// `::`
    Separator,
    Mark(char),
}

/// The tokens of `text` with their lines, counted from 1.
pub(crate) fn tokens(text: &str) -> Vec<(usize, Token)> {
    Lexer { rest: text.chars().collect(), at: 0, line: 1, out: Vec::new() }.run()
}

struct Lexer {
    rest: Vec<char>,
    at: usize,
    line: usize,
    out: Vec<(usize, Token)>,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> char {
        self.rest.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn bump(&mut self) -> char {
        let now = self.peek(0);
        self.at += 1;
        if now == '\n' {
            self.line += 1;
        }
        now
    }

    fn run(mut self) -> Vec<(usize, Token)> {
        while self.at < self.rest.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '/') => self.line_comment(),
                ('/', '*') => self.block_comment(),
                ('"', _) => self.string(),
                ('\'', _) => self.quote(),
                (':', ':') => {
                    self.out.push((self.line, Token::Separator));
                    self.at += 2;
                }
                (first, _) if first.is_alphanumeric() || first == '_' => self.word(),
                (space, _) if space.is_whitespace() => drop(self.bump()),
                _ => {
                    let line = self.line;
                    let mark = self.bump();
                    self.out.push((line, Token::Mark(mark)));
                }
            }
        }
        self.out
    }

    fn line_comment(&mut self) {
        while self.at < self.rest.len() && self.peek(0) != '\n' {
            self.at += 1;
        }
    }

    /// Block comments nest.
    fn block_comment(&mut self) {
        let mut depth = 0;
        loop {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => depth += 1,
                ('*', '/') => depth -= 1,
                _ if self.at >= self.rest.len() => return,
                _ => {
                    self.bump();
                    continue;
                }
            }
            self.at += 2;
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        self.bump();
        while self.at < self.rest.len() {
            match self.bump() {
                '\\' => drop(self.bump()),
                '"' => return,
                _ => {}
            }
        }
    }

    /// `r"…"`, `r#"…"#` and the like; the prefix's letters are read already.
    fn raw_string(&mut self) {
        let mut hashes = 0;
        while self.peek(0) == '#' {
            hashes += 1;
            self.at += 1;
        }
        self.bump();
        while self.at < self.rest.len() {
            if self.bump() == '"' && (0..hashes).all(|ahead| self.peek(ahead) == '#') {
                self.at += hashes;
                return;
            }
        }
    }

    /// A character (`'x'`, `'\''`, `'\u{1F}'`) or a lifetime (`'static`).
    fn quote(&mut self) {
        self.bump();
        if self.peek(0) == '\\' {
            self.bump();
            self.bump();
            while self.at < self.rest.len() && self.bump() != '\'' {}
        } else if self.peek(1) == '\'' {
            self.bump();
            self.bump();
        } else {
            while self.peek(0).is_alphanumeric() || self.peek(0) == '_' {
                self.at += 1;
            }
        }
    }

    fn word(&mut self) {
        let mut word = String::new();
        while self.peek(0).is_alphanumeric() || self.peek(0) == '_' {
            word.push(self.bump());
        }
        match (word.as_str(), self.peek(0), self.peek(1)) {
            ("r" | "br" | "cr", '"', _) | ("r" | "br" | "cr", '#', '"' | '#') => self.raw_string(),
            ("b" | "c", '"', _) => self.string(),
            ("b", '\'', _) => self.quote(),
            ("r", '#', _) => self.at += 1, // a raw identifier: the word follows
            _ => self.out.push((self.line, Token::Word(word))),
        }
    }
}
