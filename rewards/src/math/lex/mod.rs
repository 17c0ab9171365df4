//! An answer becomes tokens.
//!
//! Before: [`super::extract`] found the answer. After: [`super::parse`]. Fonts, blanks and sizes of TeX are dropped here.
//! One pass, linear in the text.

mod letters;
mod number;
mod tex;
mod unicode;
mod words;

use super::node::{Func, Op, Rational};

/// A piece of an answer's text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    /// A number, and whether it was written with digits alone.
    Number(Rational, bool),
    /// A number in a base other than ten, such as `1A_{16}`.
    Based(String, u32),
    Variable(String),
    /// Words, in `\text{}` or not.
    Word(String),
    Func(Func),
    Frac,
    Sqrt,
    Binom,
    Pi,
    E,
    I,
    Infinity,
    Reals,
    Empty,
    Relation(Op),
    /// `\cup`, `\cap`, `\setminus`
    Set(char),
    /// `\mid`
    Mid,
    /// ± or ∓
    PlusMinus(bool),
    /// `\begin{…}`
    Begin(String),
    End,
    /// `\\`
    Row,
    /// `\{` and `\}`
    SetOpen,
    SetClose,
    /// `\lfloor` … `\rceil`
    Open(Func),
    Close(Func),
    Degree,
    Currency(&'static str),
    /// `\over`; or `\choose`, with `true`.
    Over(bool),
    /// `\pmod`, with `true`, or `\bmod`.
    Mod(bool),
    /// `\sum`, or `\prod` with `true`.
    Sum(bool),
    Limit,
    /// `\to`
    Arrow,
    /// `\forall`
    ForAll,
    /// What is not to be read, such as `\int`: its name.
    Unknown(String),
    /// A sign that means itself: `+ - * / ^ _ ( ) [ ] { } < > | , ; : ! % & '`
    Sign(char),
}

/// How a comma between digits is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commas {
    /// One before exactly three digits belongs to the number.
    Group,
    /// It is between two items of a list.
    Part,
    /// It is the decimal sign.
    Decimal,
}

/// The tokens of a text.
pub(crate) fn tokens(text: &str, commas: Commas) -> Vec<Token> {
    let plain = unicode::plain(text);
    let (grouped, decimal_comma) = (commas == Commas::Group, commas == Commas::Decimal);
    let mut lexer =
        Lexer { text: &plain, at: 0, grouped, decimal_comma, found: Vec::new(), braces: 0, blank: false };
    while lexer.at < plain.len() {
        lexer.next();
    }
    words::spelled(lexer.found)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    grouped: bool,
    decimal_comma: bool,
    found: Vec<Token>,
    /// Braces that are open: what is in them is mathematics.
    braces: usize,
    /// Whether a blank is before the token that comes next.
    blank: bool,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn push(&mut self, token: Token) {
        self.found.push(token);
    }

    fn eat(&mut self, word: &str) -> bool {
        let there = self.rest().starts_with(word);
        if there {
            self.at += word.len();
        }
        there
    }

    fn next(&mut self) {
        let Some(c) = self.rest().chars().next() else { return };
        let blank = std::mem::take(&mut self.blank);
        if c.is_whitespace() || c == '$' || c == '~' {
            self.at += c.len_utf8();
            self.blank = blank || c != '$';
            if c == '$' && self.currency_follows() {
                self.push(Token::Currency("dollar"));
            }
        } else if c == '\\' {
            self.command();
        } else if c.is_ascii_digit() || c == '.' && self.rest()[1..].starts_with(|c: char| c.is_ascii_digit())
        {
            self.number();
        } else if c.is_ascii_alphabetic() {
            self.letters(blank);
        } else {
            self.at += c.len_utf8();
            self.sign(c);
        }
    }

    /// An unescaped dollar is a currency if no other one closes it.
    fn currency_follows(&self) -> bool {
        self.rest().starts_with(|c: char| c.is_ascii_digit() || c == '.')
            && self.text.matches('$').count() == 1
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Whether a number, or what may be one, was just read.
    fn behind_number(&self) -> bool {
        matches!(self.found.last(), Some(Token::Number(..) | Token::Pi | Token::Sign('}' | ')' | '/')))
    }

    fn behind_digits(&self) -> bool {
        matches!(self.found.last(), Some(Token::Number(..)))
    }

    fn sign(&mut self, c: char) {
        let token = match c {
            '−' | '–' | '—' | '‑' => Token::Sign('-'),
            '×' | '·' | '⋅' | '∙' | '∗' | '•' => Token::Sign('*'),
            '÷' | '∕' | '⁄' => Token::Sign('/'),
            '*' => {
                if self.eat("*") {
                    Token::Sign('^')
                } else {
                    Token::Sign('*')
                }
            }
            '=' | '≡' => {
                self.eat("=");
                Token::Relation(Op::Equal)
            }
            '≈' => Token::Relation(Op::Approximately),
            '<' => Token::Relation(if self.eat("=") { Op::LessEqual } else { Op::Less }),
            '>' => Token::Relation(if self.eat("=") { Op::GreaterEqual } else { Op::Greater }),
            '!' if self.rest().starts_with('=') => {
                self.at += 1;
                Token::Relation(Op::NotEqual)
            }
            '≤' | '⩽' => Token::Relation(Op::LessEqual),
            '≥' | '⩾' => Token::Relation(Op::GreaterEqual),
            '≠' => Token::Relation(Op::NotEqual),
            '∈' => Token::Relation(Op::In),
            '∪' | '∩' | '∖' => Token::Set(c),
            '±' => Token::PlusMinus(false),
            '∓' => Token::PlusMinus(true),
            'π' => Token::Pi,
            '∞' => Token::Infinity,
            '√' => Token::Sqrt,
            '°' | 'º' => Token::Degree,
            'ℝ' => Token::Reals,
            '∅' | 'Ø' => Token::Empty,
            '′' | '’' | '\'' => Token::Sign('\''),
            '％' => Token::Sign('%'),
            '，' | '、' => Token::Sign(','),
            '；' => Token::Sign(';'),
            '（' => Token::Sign('('),
            '）' => Token::Sign(')'),
            '：' => Token::Sign(':'),
            '∣' => Token::Sign('|'),
            '€' => Token::Currency("euro"),
            '£' => Token::Currency("pound"),
            '₹' => Token::Currency("rupee"),
            '¥' => Token::Currency("yen"),
            '¢' => Token::Word("cent".into()),
            '{' | '}' => {
                self.braces = if c == '{' { self.braces + 1 } else { self.braces.saturating_sub(1) };
                Token::Sign(c)
            }
            '⟨' | '⟩' | '+' | '-' | '/' | '^' | '_' | '(' | ')' | '[' | ']' | '|' | ',' | ';' | ':' | '!'
            | '%' | '&' => Token::Sign(c),
            '.' | '?' | '"' | '`' => {
                // an end of sentence; anywhere else it is not mathematics
                if self.rest().trim_matches(|c: char| ".$\\)]} ".contains(c) || c.is_whitespace()).is_empty()
                {
                    return;
                }
                Token::Unknown(c.into())
            }
            '\u{200b}' | '\u{200c}' | '\u{200d}' | '\u{feff}' => return,
            _ => {
                if let Some((a, b)) = vulgar(c) {
                    self.push(Token::Frac);
                    self.push(Token::Number(Rational::from_integer(a.into()), true));
                    Token::Number(Rational::from_integer(b.into()), true)
                } else if c.is_alphabetic() {
                    let rest = self.rest();
                    let len = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
                    self.at += len;
                    let word = format!("{c}{}", &rest[..len]);
                    if word.chars().count() == 1 { letter(&word) } else { Token::Word(word) }
                } else {
                    Token::Unknown(c.into())
                }
            }
        };
        self.push(token);
    }
}

fn letter(c: &str) -> Token {
    match c {
        "e" => Token::E,
        "i" => Token::I,
        "π" => Token::Pi,
        _ => Token::Variable(c.to_owned()),
    }
}

fn vulgar(c: char) -> Option<(u32, u32)> {
    Some(match c {
        '½' => (1, 2),
        '⅓' => (1, 3),
        '⅔' => (2, 3),
        '¼' => (1, 4),
        '¾' => (3, 4),
        '⅕' => (1, 5),
        '⅖' => (2, 5),
        '⅗' => (3, 5),
        '⅘' => (4, 5),
        '⅙' => (1, 6),
        '⅚' => (5, 6),
        '⅛' => (1, 8),
        '⅜' => (3, 8),
        '⅝' => (5, 8),
        '⅞' => (7, 8),
        _ => return None,
    })
}

/// Words with single blanks between, and nothing of TeX.
pub(crate) fn clean(words: &str) -> String {
    let plain: String = words.chars().map(|c| if "~\\{}$".contains(c) { ' ' } else { c }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}
