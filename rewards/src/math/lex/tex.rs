//! Commands of TeX, and what they take.
//!
//! Before: a backslash. After: a token, or nothing if the command says only how things look.

use super::{Lexer, Token, clean, letter, tokens};
use crate::math::node::{Func, Op};
use crate::math::unit;

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

impl Lexer<'_> {
    pub(super) fn command(&mut self) {
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
            "land" | "wedge" => Token::Unknown("and".into()),
            "lor" | "vee" => Token::Unknown("or".into()),
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
                if self.behind_number() && unit::is_known(bare) {
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
        if self.behind_number() && unit::is_known(bare) {
            return self.push(Token::Word(bare.to_owned()));
        }
        let inner = bare.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        let single = |text: &str| text.chars().count() == 1 && text.chars().all(char::is_alphabetic);
        if single(bare) {
            return self.push(letter(bare));
        }
        let wordless = !bare.contains(char::is_alphabetic);
        if wordless || inner.is_some_and(single) || bare.contains(|c: char| c.is_ascii_digit() || c == '\\') {
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
}
