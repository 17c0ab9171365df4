//! Where the expressions of a line stand.
//!
//! Before: a line of prose with formulas in it, between dollar signs or not. After: [`super::last`] takes the last of them,
//! and [`super::phrase`] the one that a phrase is followed by.

use std::ops::Range;

use crate::math::{is_scale, is_unit};

/// A piece of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An expression, or a part of one: `5`, `(x`, `\frac{1}{2}`, `$x + 1$`.
    Math,
    /// A name, which is an expression only beside a sign: `x`, `AB`, `$n$`.
    Name,
    /// `+`, `=`, `\times`.
    Sign,
    /// A unit, if it stands behind a number.
    Unit,
    /// "and".
    And,
    Word,
}

/// A word of a line, or a formula.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) kind: Kind,
    /// Without quotes, emphasis and punctuation around it.
    pub(super) at: Range<usize>,
    /// The punctuation behind it.
    pub(super) ends: Option<char>,
    /// Its brackets that are open at its end.
    open: i32,
    formula: bool,
}

/// An expression: where it is, and whether something is missing at its end, as in `2 + 2 =`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) at: Range<usize>,
    pub(super) unfinished: bool,
    /// Whether it is no more than a name.
    pub(super) name: bool,
}

const DELIMITERS: [(&str, &str); 4] = [("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")];
const QUOTES: &[char] = &['*', '"', '\'', '`', '“', '”', '‘', '’', '«', '»', '_', '✓', '✅'];
const SIGNS: &[&str] = &[
    "+", "-", "−", "–", "*", "/", "=", "<", ">", "≤", "≥", "≠", "≈", "×", "·", "÷", "±", "^", "==", ":",
    r"\times", r"\cdot", r"\pm", r"\mp", r"\div", r"\le", r"\leq", r"\ge", r"\geq", r"\ne", r"\neq",
    r"\approx", r"\equiv", r"\in", r"\cup", r"\cap",
];

/// The formula that the text begins with: its delimiters' length and the length of what is between them.
pub(super) fn formula_at(text: &str) -> Option<(usize, usize)> {
    let (open, close) = DELIMITERS.into_iter().find(|(open, _)| text.starts_with(open))?;
    let inside = &text[open.len()..];
    let len = inside.find(close)?;
    let content = &inside[..len];
    let amount = inside[len + close.len()..].starts_with(|c: char| c.is_ascii_digit());
    if open == "$" && amount && content.starts_with(|c: char| c.is_ascii_digit()) {
        return None; // $250 + $1,000
    }
    // between the dollars of "$5 and $7" there is prose
    if content.trim().is_empty() || open == "$" && (content.contains("\n\n") || prose(content)) {
        return None;
    }
    Some((open.len(), len))
}

/// Whether there are words in it that are no part of a formula.
fn prose(content: &str) -> bool {
    if content.contains('\\') {
        return false;
    }
    let word = |word: &str| word.len() > 2 && word.bytes().all(|b| b.is_ascii_lowercase());
    let words = content.split(|c: char| !c.is_alphabetic()).filter(|w| word(w)).count();
    words > 1 || words == 1 && content.ends_with(char::is_whitespace)
}

/// The words and formulas of a line.
pub(super) fn items(line: &str) -> Vec<Item> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < line.len() {
        let rest = &line[at..];
        let Some(c) = rest.chars().next() else { break };
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        if let Some((delimiter, len)) = formula_at(rest) {
            let inside = at + delimiter..at + delimiter + len;
            at = inside.end + delimiter;
            found.push(formula(line, inside, at));
            continue;
        }
        // up to a blank, or to a formula that begins within the word
        let mut end = at + c.len_utf8();
        while let Some(c) = line[end..].chars().next() {
            let dollar =
                c == '$' && !line[..end].ends_with(['\\', '-', '−']) || line[end..].starts_with(r"\(");
            if c.is_whitespace() || dollar && formula_at(&line[end..]).is_some() {
                break;
            }
            end += c.len_utf8();
        }
        found.push(word(line, at..end));
        at = end;
    }
    found
}

fn formula(line: &str, inside: Range<usize>, end: usize) -> Item {
    let content = line[inside.clone()].trim();
    let ends = line[end..].chars().find(|c| !QUOTES.contains(c)).filter(|c| ",.;:!?".contains(*c));
    let kind = if is_name(content) { Kind::Name } else { Kind::Math };
    Item { kind, at: inside, ends, open: 0, formula: true }
}

/// `n`, `ABC`, `f(x)`, `\triangle ABC`, `x_1`: what an answer is about, and no answer.
fn is_name(content: &str) -> bool {
    let bare = content.trim_end_matches("(x)").trim_end_matches("(n)");
    let command =
        bare.starts_with('\\') && !bare.contains(' ') && !matches!(bare, r"\pi" | r"\infty" | r"\emptyset");
    let plain = bare.trim_start_matches(r"\triangle").trim_start_matches(r"\angle").trim();
    let letters = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_alphabetic() || c == '\'');
    let (name, subscript) = plain.split_once('_').unwrap_or((plain, ""));
    letters(name) && subscript.len() < 6 && !matches!(name, "e" | "i")
        || command && bare[1..].chars().all(char::is_alphabetic)
}

fn word(line: &str, at: Range<usize>) -> Item {
    let text = &line[at.clone()];
    let punctuation = |c: char| ",.;:!?".contains(c) || QUOTES.contains(&c);
    // $<<9*2=18>>18: a calculator's mark before the number
    let text =
        text.rsplit_once(">>").filter(|(mark, _)| mark.contains("<<")).map_or(text, |(_, behind)| behind);
    let mut bare = if SIGNS.contains(&text) { text } else { text.trim_start_matches(QUOTES) };
    let start = at.end - bare.len();
    if !SIGNS.contains(&bare) {
        let all = bare;
        bare = all.trim_end_matches(punctuation);
        // "3! ways" are six, "100!" at the end of a sentence are a hundred
        let goes_on =
            line[at.end..].trim_start().starts_with(|c: char| c.is_lowercase()) || all.ends_with("!.");
        let factorial =
            all[bare.len()..].starts_with('!') && bare.ends_with(|c: char| c.is_alphanumeric() || c == ')');
        if goes_on && factorial {
            bare = &all[..=bare.len()];
        }
    }
    let ends = line[start + bare.len()..at.end].chars().find(|c| !QUOTES.contains(c));
    let (mut from, mut to) = (start, start + bare.len());
    let content = &line[from..to];
    let letters = content.chars().filter(|c| c.is_alphabetic()).count();
    let kind = if SIGNS.contains(&content) {
        Kind::Sign
    } else if content.eq_ignore_ascii_case("and") || content == "&" {
        Kind::And
    } else if content.is_empty()
        || content.chars().all(|c| !c.is_alphanumeric() && !"()[]{}∞√π%°".contains(c))
    {
        Kind::Word
    } else if content.contains(['(', '_'])
        && is_name(content.strip_prefix('(').map_or(content, |inner| inner.trim_end_matches(')')))
    {
        Kind::Name // f(x), and the (a) of "part (a)"
    } else if is_mathematics(content) {
        // "7-day" has a number in it
        if let Some(len) = leading_number(content) {
            to = from + len;
        } else if let Some(equals) = content.find('=').filter(|at| worded(&content[..*at])) {
            from += equals + 1;
        }
        Kind::Math
    } else if is_unit(content) && letters > 1 {
        Kind::Unit
    } else if letters > 0
        && letters <= 2
        && letters == content.chars().count()
        && !matches!(
            content.to_lowercase().as_str(),
            "is" | "of"
                | "to"
                | "in"
                | "so"
                | "we"
                | "as"
                | "it"
                | "by"
                | "at"
                | "or"
                | "an"
                | "be"
                | "he"
                | "on"
                | "if"
                | "no"
                | "do"
                | "my"
                | "us"
                | "up"
                | "go"
        )
    {
        Kind::Name
    } else {
        Kind::Word
    };
    Item { kind, at: from..to, ends, open: depth(&line[from..to]), formula: false }
}

/// Brackets that a text opens, less those that it closes.
fn depth(text: &str) -> i32 {
    text.chars().fold(0, |open, c| open + i32::from("([{".contains(c)) - i32::from(")]}".contains(c)))
}

/// Three letters in a row, without a backslash before them.
fn worded(text: &str) -> bool {
    !text.contains('\\') && text.split(|c: char| !c.is_alphabetic()).any(|word| word.chars().count() > 2)
}

fn is_mathematics(word: &str) -> bool {
    let first = word.trim_start_matches(|c: char| "([{+-−±|$€£₹√~≈<>=".contains(c));
    let digit = first.starts_with(|c: char| c.is_numeric() || c == '.' && first.len() > 1);
    if digit || word.contains(['\\', '^', '√', 'π', '∞', '{', '}']) {
        return true;
    }
    let has = |c: char| word.contains(c);
    let operator = has('=') || has('+') || has('<') || has('>') || has('*') || has('≤') || has('≥');
    if operator && !worded(word) || has('=') && word.contains(|c: char| c.is_ascii_digit()) {
        return true;
    }
    // `f(2)`, `x_1`, `x/2`, `(x,`, `y)`, `x-1`
    let short = !word.split(|c: char| !c.is_alphabetic()).any(|run| run.chars().count() > 2);
    let sign = word.contains(|c: char| c.is_ascii_digit() || "()[],/-−|".contains(c));
    short
        && sign
        && word.chars().any(|c| !c.is_alphabetic())
        && word.chars().next().is_some_and(|c| !"-−/".contains(c))
        && !(word.contains('-')
            && !word.contains(|c: char| c.is_ascii_digit())
            && word.split('-').any(|run| run.chars().count() > 1))
}

/// The number before a hyphen and a word: `7-day`, or a stray letter `7th`.
fn leading_number(word: &str) -> Option<usize> {
    let len = word.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',')?;
    let rest = word[len..].strip_prefix(['-', '‑'])?;
    (len > 0 && rest.chars().count() > 2 && rest.chars().all(char::is_alphabetic)).then_some(len)
}

/// The expressions of a line, in order.
pub(super) fn spans(line: &str) -> Vec<Span> {
    runs(line, &items(line), false)
}

/// The expression that a line begins with.
pub(super) fn first(line: &str) -> Option<Span> {
    let items = items(line);
    if !matches!(items.first()?.kind, Kind::Math | Kind::Sign | Kind::Name) {
        return None;
    }
    runs(line, &items, true)
        .into_iter()
        .next()
        .filter(|span| line[..span.at.start].chars().all(|c| !c.is_alphanumeric()))
}

/// Neighbours that are one expression, joined.
fn runs(line: &str, items: &[Item], only_first: bool) -> Vec<Span> {
    let mut found: Vec<Span> = Vec::new();
    let mut at = 0;
    while at < items.len() && (!only_first || found.is_empty()) {
        let start = &items[at];
        let sign_next = items.get(at + 1).is_some_and(|next| next.kind == Kind::Sign) && start.ends.is_none();
        let begins = match start.kind {
            Kind::Math => true,
            Kind::Name => start.formula || sign_next,
            // −5, and not a dash
            Kind::Sign => {
                matches!(&line[start.at.clone()], "±" | r"\pm" | r"\mp") && items.get(at + 1).is_some()
            }
            _ => false,
        };
        if !begins {
            at += 1;
            continue;
        }
        let (last, unfinished) = extent(line, items, at);
        let mut to = items[last].at.end;
        let mut from = start.at.start;
        to = to.max(from);
        if let Some(mark) = line[from..to].rfind(">>").filter(|at| line[from..from + at].contains("<<")) {
            from += mark + 2;
        }
        // `(which is 84)` has a bracket that is not the number's
        for _ in depth(&line[from..to])..0 {
            to -= usize::from(line[from..to].ends_with(')'));
        }
        let name = last == at && start.kind == Kind::Name;
        let text = line[from..to].trim_end();
        let open = text.ends_with(['=', '+', '<', '>', '×'])
            || text.ends_with(r"\times")
            || text.ends_with(r"\cdot");
        found.push(Span { at: from..to, unfinished: unfinished || open, name });
        at = last + 1;
    }
    found
}

/// The last item of the expression that begins at an item, and whether a sign is left over at its end.
fn extent(line: &str, items: &[Item], begin: usize) -> (usize, bool) {
    let mut last = begin;
    let mut open = items[begin].open;
    let mut sign = items[begin].kind == Kind::Sign;
    let mut unit = false;
    let mut listed = false;
    loop {
        let here = &items[last];
        let Some(next) = items.get(last + 1) else { return (last, sign) };
        let comma = here.ends == Some(',');
        if here.ends.is_some() && !comma && open <= 0 {
            return (last, sign);
        }
        let goes_on = match next.kind {
            Kind::Sign => !comma || open > 0,
            Kind::Math | Kind::Name if sign || open > 0 => true,
            Kind::Name => next.formula && here.formula && comma,
            Kind::Math if comma => {
                // "1, 2, 3" is a list, and "in 2020, 12 people" is none
                let after = items.get(last + 2);
                let ends = next.ends.is_some() || after.is_none_or(|after| after.kind == Kind::And);
                listed |= ends;
                ends && here.formula == next.formula
            }
            Kind::Math => juxtaposed(line, here, next, unit),
            Kind::Unit => !comma && here.kind != Kind::Unit,
            Kind::And => {
                let after = items.get(last + 2);
                let formulas = here.formula && after.is_some_and(|after| after.formula);
                let units = unit && items.get(last + 3).is_some_and(|unit| unit.kind == Kind::Unit);
                let number = after.is_some_and(|after| after.kind == Kind::Math);
                let list = listed && number;
                // "5 and 7." at the end of a sentence is one answer of two numbers
                let bare = line[here.at.clone()].starts_with(|c: char| c.is_ascii_digit());
                let pair = number && bare && last == begin && items.len() == last + 3;
                formulas || units || list || pair
            }
            Kind::Word => {
                let text = &line[next.at.clone()];
                // "5 or 7" leaves open which
                let or = text == "or"
                    && items
                        .get(last + 2)
                        .is_some_and(|after| after.formula == here.formula && after.kind == Kind::Math);
                !comma && (or || is_scale(text))
            }
        };
        if !goes_on {
            return (last, sign);
        }
        sign = next.kind == Kind::Sign
            || matches!(next.kind, Kind::And)
            || next.kind == Kind::Word && &line[next.at.clone()] == "or";
        unit = next.kind == Kind::Unit;
        open += next.open;
        last += 1;
    }
}

/// Whether two expressions with only a blank between are one: `3 1/2`, `12 000`, `12 cm^2`, `\frac{1}{2} x^2`.
fn juxtaposed(line: &str, here: &Item, next: &Item, unit: bool) -> bool {
    if here.formula || next.formula {
        return false;
    }
    let (left, right) = (&line[here.at.clone()], &line[next.at.clone()]);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if unit {
        return digits(right) || right.starts_with(['^', '/']); // 3 hours 30 minutes
    }
    if right.starts_with(|c: char| c.is_ascii_digit()) {
        let group = right.len() == 3 && digits(right) && left.ends_with(|c: char| c.is_ascii_digit());
        let fraction = digits(left) && right.split_once('/').is_some_and(|(a, b)| digits(a) && digits(b));
        return group || fraction || left.ends_with('\\');
    }
    true
}
