//! The answer behind "the answer is", and behind `####`.
//!
//! Before: [`super::Place::Phrase`] or [`super::Place::Hash`] is asked for. After: the answer without what the sentence says of
//! it: "84, in total", "84 (even)" and "the largest $n$ is 84" are 84.

use super::boxes::joins;
use super::spans::{self, formula_at};
use crate::math::is_scale;

/// After the last "answer is" that something follows.
pub(super) fn last(text: &str) -> Option<&str> {
    place(text, 0, |_| true).map(|from| answer_of(&text[from..]))
}

/// After the last "final answer is" behind a place of the text, if that is more than words.
pub(super) fn last_final(text: &str, behind: usize) -> Option<&str> {
    let from = place(text, behind, |before| {
        let bytes = before.as_bytes();
        bytes.len() >= 7 && bytes[bytes.len() - 7..bytes.len() - 1].eq_ignore_ascii_case(b"final ")
    })?;
    let answer = answer_of(&text[from..]);
    answer.contains(|c: char| c.is_ascii_digit() || c == '\\').then_some(answer)
}

/// Where the answer begins that the last "answer" announces whose text before it is as `wanted`.
fn place(text: &str, behind: usize, wanted: impl Fn(&str) -> bool) -> Option<usize> {
    text.get(behind..)?.rmatch_indices(['n', 'N']).find_map(|(at, _)| {
        let at = behind + at;
        let rest = &text[at..];
        let word = rest.starts_with("nswer") || rest.starts_with("NSWER");
        if !word || !text[..at].ends_with(['a', 'A']) || !wanted(&text[..at]) {
            return None;
        }
        let from = at + "nswer".len();
        let skipped = follows(&text[from..]).or_else(|| heading(&text[..at - 1], &text[from..]))?;
        Some(from + skipped)
    })
}

/// Where the answer begins behind "answer", if a verb or a colon is between.
fn follows(rest: &str) -> Option<usize> {
    /// Characters between "answer" and its verb.
    const NEAR: usize = 60;
    let near = rest.char_indices().nth(NEAR).map_or(rest, |(at, _)| &rest[..at]);
    let near = near.split(['\n', '.', '?', '!']).next().unwrap_or_default();
    let verbs = [" is:", " is", " are", " be", " equals", ":", "：", " ="];
    let (at, verb) = verbs.iter().filter_map(|verb| Some((find_word(near, verb)?, verb))).min()?;
    let piece = rest[at + verb.len()..].trim_start_matches(|c: char| c.is_whitespace() || ":：*".contains(c));
    (!piece.is_empty()).then_some(rest.len() - piece.len())
}

/// Where the next line begins, if "answer" is all that its own line says: `#### Final Answer`, `**Answer**`.
fn heading(before: &str, rest: &str) -> Option<usize> {
    /// Characters of a heading on either side.
    const NEAR: usize = 24;
    let near = rest.char_indices().nth(NEAR).map_or(rest, |(at, _)| &rest[..at]);
    let (end, _) = near.split_once('\n')?;
    let from = before.char_indices().rev().take(NEAR).last().map_or(0, |(at, _)| at);
    let line = match before[from..].rsplit_once('\n') {
        Some((_, line)) => line,
        None if from == 0 => before,
        None => return None,
    };
    let bare = line.trim_matches(|c: char| c.is_whitespace() || "#*_".contains(c));
    let alone = ["", "final", "the", "the final", "my", "my final"]
        .iter()
        .any(|word| bare.eq_ignore_ascii_case(word));
    let nothing = end.chars().all(|c| c.is_whitespace() || "*_:：#".contains(c));
    let piece = rest[end.len()..].trim_start();
    (alone && nothing && !piece.is_empty()).then_some(rest.len() - piece.len())
}

/// The first place of a verb that is no part of a longer word.
fn find_word(text: &str, verb: &str) -> Option<usize> {
    text.match_indices(verb).map(|(at, _)| at).find(|at| {
        let next = text[at + verb.len()..].chars().next();
        !verb.ends_with(char::is_alphabetic) || next.is_none_or(|c| !c.is_alphanumeric())
    })
}

/// After the last `####` that begins no heading, up to the end of the line.
pub(super) fn after_hash(text: &str) -> Option<&str> {
    let mut end = text.len();
    while let Some(at) = text[..end].rfind("####") {
        let start = text[..at].trim_end_matches('#').len();
        let marks = end.min(at + 4) - start;
        let rest = &text[at + 4..];
        let (line, below) = rest.split_once('\n').unwrap_or((rest, ""));
        if marks == 4 && !is_heading(line, below) {
            return Some(answer_of_line(line));
        }
        end = start;
    }
    None
}

/// Whether a line behind `####` is a heading of what is below it.
fn is_heading(line: &str, below: &str) -> bool {
    const WORDS: [&str; 14] = [
        "step",
        "part",
        "case",
        "solution",
        "explanation",
        "conclusion",
        "verification",
        "check",
        "summary",
        "analysis",
        "given",
        "setup",
        "approach",
        "proof",
    ];
    let bare = line.trim_matches(|c: char| c.is_whitespace() || "*_:".contains(c));
    let words = || bare.split(|c: char| !c.is_alphabetic()).filter(|word| word.chars().count() > 2);
    if below.trim().is_empty() || words().next().is_none() {
        return false;
    }
    let first = words().next().unwrap_or_default();
    let numbered = bare.trim_start_matches(|c: char| c.is_ascii_digit());
    let numbered = numbered.len() < bare.len()
        && numbered.starts_with(['.', ')', ':'])
        && !numbered[1..].starts_with(|c: char| c.is_ascii_digit());
    let named = bare.starts_with(first) && WORDS.iter().any(|word| first.eq_ignore_ascii_case(word));
    numbered || named || !bare.contains(|c: char| c.is_ascii_digit() || c == '\\' || c == '$')
}

fn answer_of_line(line: &str) -> &str {
    match last(line) {
        Some(answer) => answer,
        None if line.trim().is_empty() => line,
        None => answer_of(line),
    }
}

/// Characters of a line of which no more is read.
const LONG: usize = 3000;

/// What may stand around an answer and is no part of it.
const AROUND: &[char] = &['*', '"', '\'', '`', '“', '”', '‘', '’', '«', '»', '_', ':'];

/// The answer that a text begins with, up to the end of the sentence: a formula if there is one, else an expression among
/// words, else the words.
fn answer_of(text: &str) -> &str {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || AROUND.contains(&c));
    let line =
        text.char_indices().nth(LONG).map_or(text, |(at, _)| &text[..at]).lines().next().unwrap_or_default();
    if let Some(formulas) = formulas(text) {
        // "$n$ is 34" speaks of n, and "$m+n$ is 34" of a sum
        let end = formulas.as_ptr() as usize - text.as_ptr() as usize + formulas.len();
        let behind = text[end..].trim_start_matches(['$', '\\', ')', ']']).trim_start();
        let says = ["is ", "equals "].iter().find_map(|verb| behind.strip_prefix(verb));
        let named = spans::first(line).is_some_and(|span| span.name)
            || says.is_some_and(|value| spans::first(value).is_some_and(|span| !span.name));
        return if named { predicate(sentence(line)) } else { formulas };
    }
    let mut piece = sentence(line).trim_matches(|c: char| c.is_whitespace() || AROUND.contains(&c));
    for word in [
        "therefore ",
        "thus ",
        "simply ",
        "just ",
        "now ",
        "then ",
        "equal to ",
        "approximately ",
        "about ",
        "clearly ",
        "exactly ",
        "therefore: ",
        "indeed ",
        "still ",
        "also ",
    ] {
        piece = piece.strip_prefix(word).unwrap_or(piece).trim_start();
    }
    if formula_at(piece).is_some()
        && let Some(formulas) = formulas(piece)
    {
        return formulas;
    }
    if hedged(piece) {
        return piece;
    }
    if spans::first(piece).is_some() { leading(without_comment(piece)) } else { predicate(piece) }
}

/// Whether what is said is taken back, or left open: that is not for picking a number out of.
fn hedged(piece: &str) -> bool {
    const HEDGES: [&str; 13] = [
        " or ",
        "not ",
        "less than",
        "more than",
        "greater than",
        "at least",
        "at most",
        "between ",
        "either ",
        "minus ",
        " plus ",
        "to the power",
        "otherwise",
    ];
    let lower = piece.to_lowercase();
    HEDGES.iter().any(|hedge| lower.contains(hedge))
}

/// The formula that the text begins with; with several that only a comma, "and" or "or" is between, all of them; and the
/// "million" behind it.
fn formulas(text: &str) -> Option<&str> {
    /// Characters between two formulas that are one answer.
    const JOINT: usize = 60;
    let (delimiter, len) = formula_at(text)?;
    let mut end = delimiter + len;
    let mut after = end + delimiter;
    loop {
        let rest = &text[after..];
        // what joins two formulas is short
        let near = rest.char_indices().nth(JOINT).map_or(rest, |(at, _)| &rest[..at]);
        let Some(next) = near.find(['$', '\\']) else { break };
        if !(joins(&rest[..next]) && next > 0 || rest[..next].trim() == "or" || rest[..next].trim() == ", or")
        {
            break;
        }
        let Some((delimiter, len)) = formula_at(&rest[next..]) else { break };
        end = after + next + delimiter + len;
        after = end + delimiter;
    }
    let behind = text[after..].trim_start();
    let word = &behind[..behind.find(|c: char| !c.is_alphabetic()).unwrap_or(behind.len())];
    if is_scale(word) && text[end..].starts_with('$') {
        end = text.len() - behind.len() + word.len();
    }
    Some(&text[delimiter..end])
}

/// Without the reason for it, or other words that follow a value: "84, since 90 − 6 = 84", "84 (even)".
fn without_comment(piece: &str) -> &str {
    const REASONS: [&str; 20] = [
        " because",
        " since ",
        ", since",
        ", as ",
        " as we ",
        ", which",
        " which is",
        ", so ",
        ", giving",
        ", after ",
        ", given",
        ", from ",
        " — ",
        " – ",
        ", when ",
        ", that is",
        ", i.e",
        " (since",
        " (because",
        " (as ",
    ];
    let mut piece = piece;
    let reason = REASONS.iter().filter_map(|reason| piece.find(reason)).min();
    if let Some(at) = reason {
        piece = piece[..at].trim_end();
    }
    let comment = |text: &str| {
        let word = |word: &str| word.chars().filter(|c| c.is_alphabetic()).count() > 1;
        !text.contains(|c: char| c.is_ascii_digit() || "\\$=<>".contains(c))
            && text.split(|c: char| c.is_whitespace() || c == '-').any(word)
    };
    loop {
        let before = piece;
        if let Some((value, text)) = piece.rsplit_once(',')
            && comment(text)
        {
            piece = value.trim_end();
        }
        for (open, close) in [('(', ')'), ('[', ']')] {
            if let Some((value, text)) = piece.strip_suffix(close).and_then(|piece| piece.rsplit_once(open))
                && value.ends_with(char::is_whitespace)
                && comment(text)
            {
                piece = value.trim_end();
            }
        }
        if piece == before || piece.is_empty() {
            return before;
        }
    }
}

/// A piece that begins with an expression: that, and the unit behind it.
fn leading(piece: &str) -> &str {
    /// More words than a unit and a joint have are a sentence.
    const WORDS: usize = 3;
    let Some(span) = spans::first(piece) else { return piece };
    let rest = &piece[span.at.end..];
    let open = rest.contains(|c: char| c.is_ascii_digit() || "\\$^=".contains(c));
    let words =
        rest.split_whitespace().filter(|word| word.chars().filter(|c| c.is_alphabetic()).count() > 1).count();
    let comment = rest.trim_start().starts_with([',', ';', '(']) && !open;
    let unit = words < WORDS && crate::math::readable(piece);
    if open || unit && !comment || span.unfinished { piece } else { &piece[..span.at.end] }
}

/// A piece that begins with words: what its last verb is followed by, else the last expression in it, else all of it.
fn predicate(piece: &str) -> &str {
    const WORDS: usize = 3;
    let verbs = [" is ", " are ", " equals ", " equal to ", " was ", " be ", " of: ", ": ", " = "];
    let mut rest = None;
    for verb in verbs {
        let place = piece.rfind(verb).map(|at| at + verb.len());
        rest = rest
            .max(place.filter(|at| spans::first(piece[*at..].trim_start()).is_some_and(|span| !span.name)));
    }
    if let Some(at) = rest.filter(|at| piece[..*at].matches('$').count().is_multiple_of(2)) {
        return answer_of(&piece[at..]);
    }
    let words = piece.split_whitespace().filter(|word| {
        let letters = word.chars().filter(|c| c.is_alphabetic()).count();
        letters > 1 && !word.contains('\\')
    });
    let formula = piece.match_indices(['$', '\\']).find(|(at, _)| formula_at(&piece[*at..]).is_some());
    let last = spans::spans(piece).pop().filter(|span| !span.name || formula.is_some());
    match last {
        // "the point (2, 3)", but not "June 5"
        Some(span)
            if words.count() >= WORDS
                || formula.is_some()
                || span.at.end == piece.len()
                    && piece[span.at.clone()].contains(['(', '[', '{', '=', '^', '\\']) =>
        {
            &piece[span.at]
        }
        _ => piece,
    }
}

/// Up to the end of the sentence.
fn sentence(piece: &str) -> &str {
    const SHORT: [&str; 7] = ["approx", "Rs", "rs", "No", "i.e", "e.g", "ca"];
    let mut ends = piece.match_indices(['.', '!', '?']).map(|(at, _)| at);
    let end = ends.find(|at| {
        let next = piece[at + 1..].chars().next();
        let word = piece[..*at].rsplit(char::is_whitespace).next().unwrap_or_default();
        let followed = next.is_some_and(char::is_whitespace);
        let ends = next.is_none_or(|c| c.is_whitespace() || "*\"'".contains(c));
        // 5! ways, approx. 5
        let within = piece[*at..].starts_with('!') && followed || SHORT.contains(&word) && next.is_some();
        ends && !within
    });
    piece[..end.unwrap_or(piece.len())].trim_end_matches('.')
}
