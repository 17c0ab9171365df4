//! Commands of TeX, and what they take.
//!
//! Before: a backslash. After: a token, or nothing if the command says only how things look.

use super::{Commas, Lexer, Token, clean, letter, tokens};
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
    "tiny",
    "small",
    "normalsize",
    "large",
    "Large",
    "LARGE",
    "huge",
    "Huge",
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

/// Whether TeX, or what this reads of it, has a command of this name.
pub(super) fn is_command(name: &str) -> bool {
    const OTHERS: &[&str] = &[
        "frac", "dfrac", "tfrac", "sqrt", "binom", "pi", "infty", "cdot", "times", "div", "pm", "le", "leq",
        "ge", "geq", "ne", "neq", "in", "cup", "cap", "circ", "begin", "end", "mathbb", "setminus", "approx",
        "equiv", "pmod", "sum", "prod",
    ];
    [BLANK_COMMANDS, WORD_COMMANDS, FONT_COMMANDS, ACCENTS, GREEK, OTHERS]
        .iter()
        .any(|list| list.contains(&name))
        || name.len() > 2 && Func::named(name).is_some()
}

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
                // \, \; \! \: \( \) \[ \] and a blank
                _ => self.blank = c.is_whitespace() || ",;:".contains(c),
            }
            return;
        }
        let name = &rest[..len];
        self.at += len;
        let token = match name {
            "frac" | "dfrac" | "tfrac" | "cfrac" | "sfrac" | "nicefrac" | "flatfrac" => Token::Frac,
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
            "over" | "atop" => Token::Over(false),
            "choose" => Token::Over(true),
            "pmod" | "pod" => Token::Mod(true),
            "bmod" | "mod" => return self.modulo(),
            // |A| and \det A are written for each other
            "det" => Token::Func(Func::Abs),
            "Pr" => Token::Variable("P".into()),
            "sum" | "prod" => Token::Sum(name == "prod"),
            "lim" => Token::Limit,
            "to" | "rightarrow" | "longrightarrow" => Token::Arrow,
            "forall" => Token::ForAll,
            "dots" | "ldots" | "cdots" => Token::Unknown("...".into()),
            "angle" | "measuredangle" | "triangle" | "square" | "arc" | "parallelogram" => self.figure(name),
            "Omega" if self.behind_digits() => Token::Word("ohm".into()),
            "Omega" if matches!(self.found.as_slice(), [.., Token::Number(..), Token::Variable(k)] if k == "k" || k == "M") =>
            {
                let prefix = match self.found.pop() {
                    Some(Token::Variable(prefix)) => prefix,
                    _ => return,
                };
                Token::Word(format!("{prefix}ohm"))
            }
            "jmath" | "j" => Token::Variable("j".into()),
            "top" | "intercal" => Token::Variable("T".into()),
            "cent" | "textcent" => Token::Word("cent".into()),
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
            "Z" | "N" | "Q" => Token::Variable(format!("set {name}")),
            "begin" => {
                let name = self.argument();
                if matches!(name.as_str(), "array" | "alignedat" | "alignat" | "alignat*") {
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
                if bare == "mod" {
                    return self.modulo();
                }
                if self.found.last() == Some(&Token::Variable("\\mu".into()))
                    && unit::is_known(&format!("μ{bare}"))
                {
                    self.found.pop();
                    Token::Word(format!("μ{bare}"))
                } else if self.behind_number() && unit::is_expression(bare) {
                    Token::Word(bare.chars().filter(|c| !"{}".contains(*c)).collect())
                } else if let Some(func) = Func::named(bare) {
                    Token::Func(func)
                } else if bare.chars().count() == 1 && bare.chars().all(char::is_alphabetic) {
                    letter(bare)
                } else if bare.chars().any(|c| c.is_ascii_digit() || c == '\\') {
                    // \mathbf{2340}: only a font
                    let inner = tokens(bare, self.commas());
                    self.found.extend(inner);
                    return;
                } else {
                    return self.words(bare);
                }
            }
            _ if ACCENTS.contains(&name) => {
                self.blanks();
                let under = self.text_argument().unwrap_or_default();
                // a unit vector is named as in bold
                match under.trim() {
                    "i" | "\\imath" | "\\mathbf{i}"
                        if name == "hat" || name == "vec" || name == "widehat" =>
                    {
                        Token::I
                    }
                    "j" | "\\jmath" | "\\mathbf{j}" => Token::Variable("j".into()),
                    "k" | "\\mathbf{k}" => Token::Variable("k".into()),
                    _ => Token::Variable(format!("{name} {}", clean(&under))),
                }
            }
            _ if GREEK.contains(&name) => Token::Variable(format!("\\{name}")),
            _ => match Func::named(name) {
                Some(func) => Token::Func(func),
                None => Token::Unknown(name.into()),
            },
        };
        self.push(token);
    }

    fn commas(&self) -> Commas {
        match (self.grouped, self.decimal_comma) {
            (true, _) => Commas::Group,
            (false, true) => Commas::Decimal,
            (false, false) => Commas::Part,
        }
    }

    /// `\angle ABC`, `m\angle B`: a name with the letters that follow.
    fn figure(&mut self, name: &str) -> Token {
        self.blanks();
        let rest = self.rest();
        let inner = rest.strip_prefix('{').unwrap_or(rest);
        let letters = inner.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(inner.len());
        let braced = inner.len() < rest.len();
        let closed = !braced || inner[letters..].starts_with('}');
        let named = &inner[..if closed { letters } else { 0 }];
        if letters > 0 && closed {
            self.at += letters + 2 * usize::from(braced);
        }
        if name == "angle" && self.found.last() == Some(&Token::Variable("m".into())) {
            self.found.pop();
        }
        Token::Variable(format!("{name} {named}"))
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
        let micro = words.contains("\\mu ").then(|| words.replace("\\mu ", "μ"));
        let words = micro.as_deref().unwrap_or(words);
        let bare = words.trim().trim_matches(|c: char| c == '~' || c.is_whitespace());
        if bare == "mod" {
            return self.modulo();
        }
        if self.behind_number() && unit::is_expression(bare) {
            return self.push(Token::Word(bare.chars().filter(|c| !"{}".contains(*c)).collect()));
        }
        if self.behind_number() && unit::is_phrase(bare) {
            let words = bare.split_whitespace().map(|word| Token::Word(word.into()));
            return self.found.extend(words);
        }
        let inner = bare.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        let single = |text: &str| text.chars().count() == 1 && text.chars().all(char::is_alphabetic);
        if single(bare) {
            return self.push(letter(bare));
        }
        let wordless = !bare.contains(char::is_alphabetic);
        if wordless || inner.is_some_and(single) || bare.contains(|c: char| c.is_ascii_digit() || c == '\\') {
            let inner = tokens(bare, self.commas());
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
