//! An answer becomes tokens.
//!
//! Before: [`super::extract`] found the answer. After: [`super::parse`]. Fonts, blanks and sizes of TeX are dropped here.
//! One pass, linear in the text.

use num_bigint::BigInt;
use num_traits::Pow;

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

const BLANK_COMMANDS: &[&str] = &[
    "left",
    "right",
    "big",
    "Big",
    "bigg",
    "Bigg",
    "bigl",
    "bigr",
    "Bigl",
    "Bigr",
    "biggl",
    "biggr",
    "displaystyle",
    "textstyle",
    "scriptstyle",
    "quad",
    "qquad",
    "limits",
    "nolimits",
    "hfill",
    "cdotp",
    "rm",
    "bf",
    "it",
    "boxed",
    "fbox",
    "ensuremath",
    "strut",
    "mathstrut",
    "hline",
    "newline",
    "nonumber",
    "middle",
    "noindent",
    "centering",
    "thinspace",
    "enspace",
    "therefore",
    "implies",
    "Rightarrow",
    "cr",
    "ldotp",
];

const WORD_COMMANDS: &[&str] = &[
    "text",
    "textbf",
    "textit",
    "textrm",
    "textsf",
    "texttt",
    "textnormal",
    "mbox",
    "hbox",
    "textup",
    "emph",
    "textsc",
];

const FONT_COMMANDS: &[&str] = &[
    "mathrm",
    "mathbf",
    "mathit",
    "mathsf",
    "mathtt",
    "mathcal",
    "mathfrak",
    "boldsymbol",
    "bm",
    "operatorname",
    "mathop",
    "mathnormal",
    "pmb",
    "bold",
];

const ACCENTS: &[&str] = &[
    "overline",
    "bar",
    "vec",
    "hat",
    "dot",
    "ddot",
    "tilde",
    "overrightarrow",
    "widehat",
    "widetilde",
    "underline",
    "overleftrightarrow",
    "mathring",
];

const GREEK: &[&str] = &[
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "varepsilon",
    "zeta",
    "eta",
    "theta",
    "vartheta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "omicron",
    "rho",
    "varrho",
    "sigma",
    "varsigma",
    "tau",
    "upsilon",
    "phi",
    "varphi",
    "chi",
    "psi",
    "omega",
    "Gamma",
    "Delta",
    "Theta",
    "Lambda",
    "Xi",
    "Pi",
    "Sigma",
    "Upsilon",
    "Phi",
    "Psi",
    "Omega",
    "ell",
    "hbar",
    "aleph",
    "odot",
    "bullet",
    "star",
];

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

    fn command(&mut self) {
        self.at += 1;
        let rest = self.rest();
        let len = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        if len == 0 {
            let Some(c) = rest.chars().next() else { return };
            self.at += c.len_utf8();
            match c {
                '{' => self.push(Token::SetOpen),
                '}' => self.push(Token::SetClose),
                '\\' => self.push(Token::Row),
                '%' => self.push(Token::Sign('%')),
                '$' => self.push(Token::Currency("dollar")),
                '|' => self.push(Token::Sign('|')),
                '&' | '_' | '#' => self.push(Token::Unknown(c.into())),
                _ => {} // \, \; \! \: \( \) \[ \] and a blank
            }
            return;
        }
        let name = &rest[..len];
        self.at += len;
        let token = match name {
            "frac" | "dfrac" | "tfrac" | "cfrac" => Token::Frac,
            "sqrt" => Token::Sqrt,
            "binom" | "dbinom" | "tbinom" => Token::Binom,
            "pi" => Token::Pi,
            "infty" | "infin" => Token::Infinity,
            "cdot" | "times" | "ast" | "cdotp" => Token::Sign('*'),
            "div" => Token::Sign('/'),
            "pm" => Token::PlusMinus(false),
            "mp" => Token::PlusMinus(true),
            "le" | "leq" | "leqslant" | "leqq" => Token::Relation(Op::LessEqual),
            "ge" | "geq" | "geqslant" | "geqq" => Token::Relation(Op::GreaterEqual),
            "lt" => Token::Relation(Op::Less),
            "gt" => Token::Relation(Op::Greater),
            "ne" | "neq" => Token::Relation(Op::NotEqual),
            "approx" | "simeq" | "doteq" | "sim" => Token::Relation(Op::Approximately),
            "equiv" | "cong" => Token::Relation(Op::Equal),
            "in" => Token::Relation(Op::In),
            "cup" | "bigcup" => Token::Set('∪'),
            "cap" | "bigcap" => Token::Set('∩'),
            "setminus" | "backslash" => Token::Set('∖'),
            "mid" | "vert" | "lvert" | "rvert" | "Vert" | "lVert" | "rVert" => {
                if name == "mid" {
                    Token::Mid
                } else {
                    Token::Sign('|')
                }
            }
            "circ" | "degree" => Token::Degree,
            "emptyset" | "varnothing" | "oslash" => Token::Empty,
            "lfloor" => Token::Open(Func::Floor),
            "rfloor" => Token::Close(Func::Floor),
            "lceil" => Token::Open(Func::Ceil),
            "rceil" => Token::Close(Func::Ceil),
            "langle" => Token::Sign('⟨'),
            "rangle" => Token::Sign('⟩'),
            "lbrace" => Token::SetOpen,
            "rbrace" => Token::SetClose,
            "lbrack" => Token::Sign('['),
            "rbrack" => Token::Sign(']'),
            "colon" => Token::Sign(':'),
            "prime" => Token::Sign('\''),
            "percent" => Token::Sign('%'),
            "imath" | "i" => Token::I,
            "pounds" => Token::Currency("pound"),
            "euro" => Token::Currency("euro"),
            "land" | "wedge" | "lor" | "vee" => Token::Word("or".into()),
            "mathbb" | "Bbb" => match self.argument().as_str() {
                "R" => Token::Reals,
                other => Token::Variable(format!("set {other}")),
            },
            "R" => Token::Reals,
            "begin" => {
                let name = self.argument();
                if name == "array" {
                    self.argument(); // the columns
                }
                Token::Begin(name)
            }
            "end" => {
                self.argument();
                Token::End
            }
            "phantom" | "hspace" | "vspace" | "label" | "tag" | "color" | "textcolor" => {
                self.argument();
                return;
            }
            "hphantom" | "vphantom" => {
                self.argument();
                return;
            }
            _ if BLANK_COMMANDS.contains(&name) => {
                self.eat("."); // \left.
                return;
            }
            _ if WORD_COMMANDS.contains(&name) => {
                let words = self.argument();
                return self.words(&words);
            }
            _ if FONT_COMMANDS.contains(&name) => {
                self.blanks();
                let words = self.text_argument();
                let Some(words) = words else { return };
                let bare = words.trim().trim_matches('~').trim();
                if self.behind_number() && super::unit::is_known(bare) {
                    Token::Word(bare.to_owned())
                } else if let Some(func) = Func::named(bare) {
                    Token::Func(func)
                } else if bare.chars().count() == 1 && bare.chars().all(char::is_alphabetic) {
                    letter(bare)
                } else if bare.chars().any(|c| c.is_ascii_digit() || c == '\\') {
                    // \mathbf{2340}: only a font
                    let inner = tokens(bare, self.grouped);
                    self.found.extend(inner);
                    return;
                } else {
                    return self.words(bare);
                }
            }
            _ if ACCENTS.contains(&name) => {
                self.blanks();
                let under = self.text_argument().unwrap_or_default();
                Token::Variable(format!("{name} {}", clean(&under)))
            }
            _ if GREEK.contains(&name) => Token::Variable(format!("\\{name}")),
            _ => match Func::named(name) {
                Some(func) => Token::Func(func),
                None => Token::Unknown(name.into()),
            },
        };
        self.push(token);
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// What stands in braces, or the one sign that follows.
    fn argument(&mut self) -> String {
        self.blanks();
        self.text_argument().unwrap_or_default()
    }

    fn text_argument(&mut self) -> Option<String> {
        let rest = self.rest();
        let first = rest.chars().next()?;
        if first != '{' {
            if !first.is_alphanumeric() {
                return None;
            }
            self.at += first.len_utf8();
            return Some(first.to_string());
        }
        let mut depth = 0_usize;
        for (at, c) in rest.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => {
                    depth -= 1;
                    if depth == 0 {
                        self.at += at + 1;
                        return Some(rest[1..at].to_owned());
                    }
                }
                _ => {}
            }
        }
        self.at = self.text.len();
        Some(rest[1..].to_owned())
    }

    /// What `\text{…}` holds: words, or a single letter or number, which are read as if there were no `\text`.
    fn words(&mut self, words: &str) {
        let bare = words.trim().trim_matches(|c: char| c == '~' || c.is_whitespace());
        if self.behind_number() && super::unit::is_known(bare) {
            return self.push(Token::Word(bare.to_owned()));
        }
        let inner = bare.trim_matches(|c| c == '(' || c == ')');
        if inner.chars().count() == 1 && inner.chars().all(char::is_alphabetic) {
            return self.push(letter(inner));
        }
        if bare.contains(|c: char| c.is_ascii_digit() || c == '\\') {
            let inner = tokens(bare, self.grouped);
            return self.found.extend(inner);
        }
        for word in bare.replace(',', " , ").replace(';', " ; ").split_whitespace() {
            match clean(word) {
                sign if sign == "," || sign == ";" => self.push(Token::Sign(',')),
                word if word.chars().count() == 1 && word.chars().all(char::is_alphabetic) => {
                    self.push(letter(&word))
                }
                word if !word.is_empty() => self.push(Token::Word(word)),
                _ => {}
            }
        }
    }

    /// Whether a number, or what may be one, was just read.
    fn behind_number(&self) -> bool {
        matches!(self.found.last(), Some(Token::Number(..) | Token::Pi | Token::Sign('}' | ')' | '/')))
    }

    fn digits(&mut self) -> &'a str {
        let rest = self.rest();
        let len = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// Whether the next digit alone is an argument: `\frac12`, and the `2` of it.
    fn one_digit(&self) -> bool {
        let command = |token: Option<&Token>| matches!(token, Some(Token::Frac | Token::Binom));
        match self.found.as_slice() {
            [.., before, Token::Number(..)] => {
                command(Some(before))
                    && self.text[..self.at].trim_end().ends_with(|c: char| c.is_ascii_digit())
            }
            [.., last] => command(Some(last)),
            [] => false,
        }
    }

    fn number(&mut self) {
        let start = self.at;
        if self.one_digit() && !self.rest().starts_with('.') {
            self.at += 1;
            return self.push(Token::Number(Rational::from_integer(parse(&self.text[start..self.at])), true));
        }
        let first = self.digits();
        let mut digits = first.to_owned();
        let mut plain = true;
        if let Some(base) = self.base_follows(start) {
            return self.push(base);
        }
        if (1..=3).contains(&first.len()) && !(first.starts_with('0') && first.len() > 1) {
            while let Some(group) = self.group() {
                digits.push_str(group);
                plain = false;
            }
        }
        let mut value = Rational::from_integer(parse(&digits));
        let rest = self.rest();
        let decimals = rest.strip_prefix('.').is_some_and(|after| {
            after.starts_with(|c: char| c.is_ascii_digit() || c == '\\') && !after.starts_with("\\ ")
        });
        if decimals
            && (rest[1..].starts_with(|c: char| c.is_ascii_digit()) || rest[1..].starts_with("\\overline"))
        {
            self.at += 1;
            let places = self.digits();
            plain = false;
            let scale = BigInt::from(10).pow(places.len().min(4096));
            value += Rational::new(parse(places), scale.clone());
            if let Some(repeating) = self.repeating() {
                let nines: BigInt = BigInt::from(10).pow(repeating.len().min(4096)) - 1;
                value += Rational::new(parse(repeating), nines * scale);
            }
        }
        if let Some(exponent) = self.exponent() {
            let power = Rational::from_integer(BigInt::from(10)).pow(exponent);
            value *= power;
            plain = false;
        }
        self.push(Token::Number(value, plain));
    }

    /// `\overline{3}` behind a decimal point.
    fn repeating(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let inner = rest.strip_prefix("\\overline{")?;
        let len = inner.find('}')?;
        if len == 0 || !inner[..len].bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        self.at += "\\overline{".len() + len + 1;
        Some(&inner[..len])
    }

    /// A separator and exactly three digits.
    fn group(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let sure = [",\\! ", ",\\!", "{,}", "\\,", "\\!", " "].iter().find(|sign| rest.starts_with(**sign));
        let separator = match sure {
            Some(sign) => *sign,
            None if self.grouped && rest.starts_with(',') => ",",
            None => return None,
        };
        let (group, after) = rest[separator.len()..].split_at_checked(3)?;
        let fits =
            group.bytes().all(|b| b.is_ascii_digit()) && !after.starts_with(|c: char| c.is_ascii_digit());
        // `1 000` is a thousand, `3 100/200` and `2 500 x` are not
        if !fits || separator == " " && after.trim_start().starts_with(['/', '\\', '^']) {
            return None;
        }
        self.at += separator.len() + 3;
        Some(group)
    }

    /// `e-3` directly behind a number.
    fn exponent(&mut self) -> Option<i32> {
        let rest = self.rest();
        let after = rest.strip_prefix(['e', 'E'])?;
        let (minus, digits) = match after.chars().next()? {
            '-' | '−' => (true, after.trim_start_matches(['-', '−'])),
            '+' => (false, &after[1..]),
            _ => (false, after),
        };
        let len = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        if len == 0 || len > 3 || digits[len..].starts_with(|c: char| c.is_alphanumeric()) {
            return None;
        }
        let exponent: i32 = digits[..len].parse().ok()?;
        self.at += rest.len() - digits[len..].len();
        Some(if minus { -exponent } else { exponent })
    }

    /// `1011_2`, `1A3_{16}`: digits and letters from `start`, all below the base.
    fn base_follows(&mut self, start: usize) -> Option<Token> {
        let text = &self.text[start..];
        let len = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
        let digits = &text[..len];
        let after = text[len..].trim_start().strip_prefix('_')?.trim_start();
        let (base, rest) = match after.strip_prefix('{') {
            Some(inner) => {
                let end = inner.find('}')?;
                (inner[..end].trim(), &inner[end + 1..])
            }
            None => after.split_at(after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len())),
        };
        let base = base.trim_start_matches("\\text{").trim_end_matches('}');
        let base = match base {
            "two" => 2,
            "eight" => 8,
            "ten" => 10,
            "sixteen" => 16,
            _ => base.parse::<u32>().ok()?,
        };
        let fits = (2..=36).contains(&base) && digits.chars().all(|c| c.is_digit(base) && !c.is_lowercase());
        if !fits {
            return None;
        }
        self.at = self.text.len() - rest.len();
        Some(Token::Based(digits.to_owned(), base))
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

fn parse(digits: &str) -> BigInt {
    digits.parse().unwrap_or_default() // only an empty text is no number
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
