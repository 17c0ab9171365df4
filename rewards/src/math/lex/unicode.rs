//! Signs beyond ASCII, and backslashes that were escaped twice, become TeX.
//!
//! Before: an answer as it was written. After: [`super::tokens`] reads it. Plain ASCII passes through untouched.

use std::borrow::Cow;

use super::tex::is_command;

/// The text with fullwidth letters and digits, superscripts, subscripts, Greek and mathematical letters as TeX has them.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    if text.contains("\\\\") && escaped_twice(&text) {
        text = Cow::Owned(text.replace("\\\\", "\\"));
    }
    if text.is_ascii() {
        return text;
    }
    let mut plain = String::with_capacity(text.len() + 16);
    let mut script = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let now = raised(c).map(|c| ('^', c)).or_else(|| lowered(c).map(|c| ('_', c)));
        if let Some((kind, inner)) = now {
            if script != Some(kind) {
                if script.is_some() {
                    plain.push('}');
                }
                plain.push(kind);
                plain.push('{');
            }
            script = Some(kind);
            plain.push(inner);
            continue;
        }
        if script.take().is_some() {
            plain.push('}');
        }
        match chars.peek() {
            // 0.3̅ and 0.3̇
            Some('\u{304}' | '\u{305}') => {
                chars.next();
                plain.push_str("\\overline{");
                plain.push(ascii(c).unwrap_or(c));
                plain.push('}');
            }
            Some('\u{307}') => {
                chars.next();
                plain.push_str("\\dot{");
                plain.push(ascii(c).unwrap_or(c));
                plain.push('}');
            }
            _ => match (ascii(c), tex(greek(c))) {
                (Some(c), _) => plain.push(c),
                (None, Some(command)) => plain.push_str(command),
                (None, None) => plain.push(greek(c)),
            },
        }
    }
    if script.is_some() {
        plain.push('}');
    }
    Cow::Owned(plain)
}

/// Whether every backslash before a letter is doubled, and a command follows one of them: `\\frac{1}{2}`.
fn escaped_twice(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (mut at, mut command) = (0, false);
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        let run = bytes[at..].iter().take_while(|b| **b == b'\\').count();
        if run % 2 == 1 {
            return false;
        }
        at += run;
        let name = text[at..].split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
        command |= name.len() > 1 && is_command(name);
    }
    command
}

/// The ASCII character that a fullwidth, mathematical or foreign letter or digit stands for.
fn ascii(c: char) -> Option<char> {
    let code = c as u32;
    let digit = |zero: u32| char::from_digit((code - zero) % 10, 10);
    let letter = |first: u32| {
        let at = ((code - first) % 52) as u8;
        Some(if at < 26 { (b'A' + at) as char } else { (b'a' + at - 26) as char })
    };
    match code {
        0xFF01..=0xFF5E => char::from_u32(code - 0xFEE0),
        0x3000 | 0xA0 => Some(' '),
        0x0660..=0x0669 => digit(0x0660),
        0x06F0..=0x06F9 => digit(0x06F0),
        0x0966..=0x096F => digit(0x0966),
        0x09E6..=0x09EF => digit(0x09E6),
        0x0E50..=0x0E59 => digit(0x0E50),
        0x1D400..=0x1D6A3 => letter(0x1D400),
        0x1D7CE..=0x1D7FF => digit(0x1D7CE),
        0x210E => Some('h'),
        _ => None,
    }
}

/// The Greek letter that a mathematical one stands for; other characters are themselves.
fn greek(c: char) -> char {
    let code = c as u32;
    if !(0x1D6A8..=0x1D7CB).contains(&code) {
        return c;
    }
    let letter = match (code - 0x1D6A8) % 58 {
        at @ 0..=16 => 0x391 + at,
        17 => 0x398,
        at @ 18..=24 => 0x391 + at,
        at @ 26..=50 => 0x3B1 + at - 26,
        25 => 0x2207,
        51 => 0x2202,
        52 => 0x3B5,
        53 => 0x3B8,
        54 => 0x3BA,
        55 => 0x3C6,
        56 => 0x3C1,
        _ => 0x3C0,
    };
    char::from_u32(letter).unwrap_or(c)
}

fn raised(c: char) -> Option<char> {
    if let Some(digit) = "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().position(|s| s == c) {
        return char::from_digit(digit as u32, 10);
    }
    Some(match c {
        '⁺' => '+',
        '⁻' => '-',
        '⁽' => '(',
        '⁾' => ')',
        'ⁿ' => 'n',
        'ⁱ' => 'i',
        'ˣ' => 'x',
        'ᵏ' => 'k',
        'ᵐ' => 'm',
        'ᵗ' => 't',
        'ᵃ' => 'a',
        'ᵇ' => 'b',
        'ᵀ' => 'T',
        'ᶜ' => 'c',
        _ => return None,
    })
}

fn lowered(c: char) -> Option<char> {
    if let Some(digit) = "₀₁₂₃₄₅₆₇₈₉".chars().position(|s| s == c) {
        return char::from_digit(digit as u32, 10);
    }
    Some(match c {
        '₊' => '+',
        '₋' => '-',
        'ₙ' => 'n',
        'ₖ' => 'k',
        'ₘ' => 'm',
        'ᵢ' => 'i',
        'ⱼ' => 'j',
        'ₓ' => 'x',
        'ₐ' => 'a',
        'ₜ' => 't',
        _ => return None,
    })
}

fn tex(c: char) -> Option<&'static str> {
    Some(match c {
        'α' => "\\alpha ",
        'β' => "\\beta ",
        'γ' => "\\gamma ",
        'δ' => "\\delta ",
        'ε' | 'ϵ' => "\\epsilon ",
        'ζ' => "\\zeta ",
        'η' => "\\eta ",
        'θ' => "\\theta ",
        'ι' => "\\iota ",
        'κ' => "\\kappa ",
        'λ' => "\\lambda ",
        '\u{3bc}' | '\u{b5}' => "\\mu ",
        'ν' => "\\nu ",
        'ξ' => "\\xi ",
        'ρ' => "\\rho ",
        'σ' => "\\sigma ",
        'τ' => "\\tau ",
        'υ' => "\\upsilon ",
        'φ' => "\\phi ",
        'ϕ' => "\\phi ",
        'χ' => "\\chi ",
        'ψ' => "\\psi ",
        'ω' => "\\omega ",
        'Γ' => "\\Gamma ",
        'Δ' => "\\Delta ",
        'Θ' => "\\Theta ",
        'Λ' => "\\Lambda ",
        'Ξ' => "\\Xi ",
        'Σ' => "\\Sigma ",
        'Φ' => "\\Phi ",
        'Ψ' => "\\Psi ",
        '\u{3a9}' | '\u{2126}' => "\\Omega ",
        'ℤ' => "\\mathbb{Z}",
        'ℕ' => "\\mathbb{N}",
        'ℚ' => "\\mathbb{Q}",
        'ℂ' => "\\mathbb{C}",
        '∑' => "\\sum ",
        '∏' => "\\prod ",
        '∛' => "\\sqrt[3]",
        '∜' => "\\sqrt[4]",
        '→' => "\\to ",
        '∀' => "\\forall ",
        '∠' => "\\angle ",
        '△' => "\\triangle ",
        '⌊' => "\\lfloor ",
        '⌋' => "\\rfloor ",
        '⌈' => "\\lceil ",
        '⌉' => "\\rceil ",
        '″' => "''",
        '…' | '⋯' => "\\ldots ",
        '\u{2009}' | '\u{202f}' | '\u{2007}' => "\\,",
        '℃' => "^\\circ C",
        '℉' => "^\\circ F",
        '“' | '”' => "\"",
        '∧' => "\\land ",
        '∨' => "\\lor ",
        '∉' => "\\notin ",
        '∼' | '～' => "\\sim ",
        '≅' => "\\cong ",
        '⊤' => "\\top ",
        'ℓ' => "\\ell ",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_beyond_ascii_are_written_in_tex_and_ascii_is_left_alone() {
        for (text, wanted) in [
            ("2x+1", "2x+1"),
            ("10¹²", "10^{12}"),
            ("x₁²", "x_{1}^{2}"),
            ("ｘ＝３．５", "x=3.5"),
            ("𝑥𝟓", "x5"),
            ("٣", "3"),
            ("θ/2", "\\theta /2"),
            ("0.3̇", "0.\\dot{3}"),
            ("a⁻¹", "a^{-1}"),
        ] {
            assert_eq!(plain(text), wanted);
        }
    }

    #[test]
    fn backslashes_are_halved_if_all_are_doubled() {
        assert_eq!(plain(r"\\frac{1}{2}"), r"\frac{1}{2}");
        assert_eq!(plain(r"\\begin{pmatrix}1\\\\2\\end{pmatrix}"), r"\begin{pmatrix}1\\2\end{pmatrix}");
        for text in [r"\begin{pmatrix}1\\2\end{pmatrix}", r"x=1\\y=2", r"x=1 \\ y=2"] {
            assert_eq!(plain(text), text);
        }
    }
}
