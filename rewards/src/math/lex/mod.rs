//! An answer becomes tokens.
//!
//! Before: [`super::extract`] found the answer. After: [`super::parse`]. Fonts, blanks and sizes of TeX are dropped here.
//! One pass, linear in the text.

mod number;
mod tex;

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
    /// What is not to be read, such as `\int`: its name.
    Unknown(String),
    /// A sign that means itself: `+ - * / ^ _ ( ) [ ] { } < > | , ; : ! % & '`
    Sign(char),
}

/// The tokens of a text. With `grouped`, a comma before exactly three digits belongs to the number.
pub(crate) fn tokens(text: &str, grouped: bool) -> Vec<Token> {
    let mut lexer = Lexer { text, at: 0, grouped, found: Vec::new() };
    while lexer.at < text.len() {
        lexer.next();
    }
    lexer.found
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    grouped: bool,
    found: Vec<Token>,
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
        if c.is_whitespace() || c == '$' || c == '~' {
            self.at += c.len_utf8();
            if c == '$' && self.currency_follows() {
                self.push(Token::Currency("dollar"));
            }
        } else if c == '\\' {
            self.command();
        } else if c.is_ascii_digit() || c == '.' && self.rest()[1..].starts_with(|c: char| c.is_ascii_digit())
        {
            self.number();
        } else if c.is_ascii_alphabetic() {
            self.letters();
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

    fn letters(&mut self) {
        let rest = self.rest();
        let len = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let run = &rest[..len];
        if len > 1 && run.bytes().all(|b| b.is_ascii_uppercase()) {
            let at = self.at;
            if let Some(token) = self.base_follows(at) {
                return self.push(token);
            }
        }
        self.at += len;
        match run {
            "pi" => return self.push(Token::Pi),
            "inf" | "infinity" | "oo" | "Infinity" => return self.push(Token::Infinity),
            "sqrt" => return self.push(Token::Sqrt),
            "e" => return self.push(Token::E),
            "i" => return self.push(Token::I),
            "U" if self.found.last().is_some_and(|t| matches!(t, Token::Sign(')' | ']'))) => {
                return self.push(Token::Set('∪'));
            }
            _ => {}
        }
        if len == 1 {
            return self.push(letter(run));
        }
        if run == "min" && self.behind_number() {
            return self.push(Token::Word(run.to_owned()));
        }
        if let Some(func) = Func::named(run) {
            return self.push(Token::Func(func));
        }
        // a few letters are a product, more are a word
        let product = match len {
            2 => {
                !super::unit::is_unit(run)
                    && !matches!(run, "or" | "No" | "no" | "is" | "in" | "at" | "of" | "to")
            }
            3 => ["xyz", "abc", "pqr", "uvw", "rst"].iter().any(|set| run.chars().all(|c| set.contains(c))),
            _ => false,
        };
        if product {
            for c in run.chars() {
                self.push(letter(c.encode_utf8(&mut [0; 4])));
            }
        } else if let Some((func, argument)) = func_and_letter(run) {
            self.push(Token::Func(func));
            self.push(letter(argument));
        } else {
            self.push(Token::Word(run.to_owned()));
        }
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
            '⟨' | '⟩' | '+' | '-' | '/' | '^' | '_' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | ',' | ';'
            | ':' | '!' | '%' | '&' => Token::Sign(c),
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
                if let Some(digit) = "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().position(|s| s == c) {
                    self.push(Token::Sign('^'));
                    Token::Number(Rational::from_integer(digit.into()), true)
                } else if let Some((a, b)) = vulgar(c) {
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

/// `sinx`, `lnx`
fn func_and_letter(run: &str) -> Option<(Func, &str)> {
    let (name, argument) = run.split_at(run.len() - 1);
    let func = Func::named(name).filter(|_| matches!(argument, "x" | "t" | "y" | "n"))?;
    Some((func, argument))
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
