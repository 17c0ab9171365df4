//! Times of day and dates.
//!
//! Before: two answers. After: [`super::equal`] has its verdict, if both are times or both are dates.

/// Whether two times of day, or two dates, are the same; `None` if they are not both.
pub(crate) fn same(answer: &str, found: &str) -> Option<bool> {
    if answer.trim_start().starts_with(['-', '−']) || found.trim_start().starts_with(['-', '−']) {
        return None;
    }
    let digit = |text: &str| text.contains(|c: char| c.is_ascii_digit());
    if !(digit(answer) && digit(found) || noon(answer) || noon(found)) {
        return None;
    }
    let letter = |text: &str, c: char| text.contains([c, c.to_ascii_uppercase()]);
    let timely = |text: &str| text.contains(':') || letter(text, 'm') || noon(text);
    let short = answer.len().max(found.len()) < 40;
    let either = timely(answer) && timely(found) || (timely(answer) || timely(found)) && short;
    if either && let (Some(a), Some(b)) = (Clock::of(answer), Clock::of(found)) {
        // 9 beside 9 a.m. is a number without its unit
        return (a.sure() && b.sure()).then(|| a.same(b));
    }
    let wordy = |text: &str| text.chars().filter(|c| c.is_alphabetic()).count() >= 3;
    if !(wordy(answer) && wordy(found)) {
        return None;
    }
    match (date(answer), date(found)) {
        (Some(a), Some(b)) => Some(
            a.month == b.month
                && a.day == b.day
                && (a.year == b.year || a.year.is_none() || b.year.is_none()),
        ),
        _ => None,
    }
}

fn noon(text: &str) -> bool {
    let lower = text.to_lowercase();
    lower.contains("noon") || lower.contains("midnight")
}

/// A time of day.
#[derive(Debug, Clone, Copy)]
struct Clock {
    hours: u32,
    minutes: u32,
    /// Whether it is after noon, if that is said.
    half: Option<bool>,
    /// Whether it was written with a colon.
    colon: bool,
}

impl Clock {
    fn of(text: &str) -> Option<Self> {
        let mut plain = text.to_lowercase();
        for word in ["\\text", "\\mathrm", "\\textbf", "o'clock", "\\ ", "\\,", "\\;", "\\!", "at "] {
            plain = plain.replace(word, "");
        }
        plain.retain(|c| !c.is_whitespace() && !"\\!${}~.".contains(c));
        match plain.as_str() {
            "noon" | "12noon" | "12:00noon" => {
                return Some(Self { hours: 12, minutes: 0, half: Some(true), colon: true });
            }
            "midnight" | "12midnight" | "12:00midnight" => {
                return Some(Self { hours: 12, minutes: 0, half: Some(false), colon: true });
            }
            _ => {}
        }
        let end = plain.find(|c: char| !(c.is_ascii_digit() || c == ':')).unwrap_or(plain.len());
        let (time, half) = plain.split_at(end);
        let half = match half {
            "" => None,
            "am" | "inthemorning" => Some(false),
            "pm" | "intheafternoon" | "intheevening" => Some(true),
            _ => return None,
        };
        let (hours, minutes) = time.split_once(':').unwrap_or((time, "00"));
        let number = |digits: &str| digits.parse::<u32>().ok();
        let fits = (1..=2).contains(&hours.len()) && minutes.len() == 2;
        let (hours, minutes) = (number(hours).filter(|_| fits)?, number(minutes)?);
        (hours < 24 && minutes < 60).then_some(Self { hours, minutes, half, colon: time.contains(':') })
    }

    /// Whether it can be nothing but a time: 5 alone is a number.
    fn sure(self) -> bool {
        self.colon || self.half.is_some()
    }

    fn same(self, other: Self) -> bool {
        let since_midnight = |clock: Self| match clock.half {
            Some(after) => {
                60 * (clock.hours % 12 + if after || clock.hours > 12 { 12 } else { 0 }) + clock.minutes
            }
            None => 60 * clock.hours + clock.minutes,
        };
        let (a, b) = (since_midnight(self), since_midnight(other));
        // 6:05 may be in the morning and in the evening; 18:05 says which
        let open = |clock: Self| clock.half.is_none() && (1..=12).contains(&clock.hours);
        if open(self) != open(other) {
            // 16:05 is not 4:05, but 4:05 p.m. is
            let sure = if open(self) { other } else { self };
            return a == b || a % 720 == b % 720 && sure.half.is_some();
        }
        a == b
    }
}

/// A day of the year.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Date {
    month: usize,
    day: u32,
    year: Option<u32>,
}

/// The months' names.
pub(super) const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// `March 5`, `5 March 2020`, `the 5th of March`.
fn date(text: &str) -> Option<Date> {
    let mut plain = text.to_lowercase();
    for word in ["\\text", "\\mathrm", "\\textbf"] {
        plain = plain.replace(word, " ");
    }
    let plain: String = plain.chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
    let (mut month, mut numbers, mut before) = (None, Vec::new(), 0);
    for word in plain.split_whitespace() {
        let digits = word.trim_end_matches(|c: char| c.is_alphabetic());
        let suffix = &word[digits.len()..];
        if !digits.is_empty() {
            if !matches!(suffix, "" | "st" | "nd" | "rd" | "th") {
                return None;
            }
            numbers.push(digits.parse::<u32>().ok()?);
            continue;
        }
        let at = MONTHS.iter().position(|name| {
            *name == word
                || word.len() >= 3 && word != "mar" && name.starts_with(word) && word.len() <= 4
                || word == "mar" && *name == "march"
        });
        match at {
            Some(at) if month.is_none() => {
                month = Some(at);
                before = numbers.len();
            }
            _ if matches!(word, "the" | "of" | "on") => {}
            _ => return None,
        }
    }
    let month = month?;
    let (day, year) = match numbers.as_slice() {
        [day] => (*day, None),
        [day, year] if before <= 1 => (*day, Some(*year)),
        _ => return None,
    };
    ((1..=31).contains(&day) && year.is_none_or(|year| year > 31)).then_some(Date { month, day, year })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_dates_are_compared_by_what_they_mean() {
        for (a, b, wanted) in [
            ("9:00 a.m.", "9 am", Some(true)),
            ("16:05", "4:05 pm", Some(true)),
            ("16:05", "4:05 am", Some(false)),
            ("16:05", "4:05", Some(false)),
            ("6:05", "6:05 PM", Some(true)),
            ("12:30 am", "0:30", Some(true)),
            ("12:30 pm", "0:30", Some(false)),
            ("12 noon", "12:00 p.m.", Some(true)),
            ("9", "9 am", None),
            ("3:4", "6:8", None),
            ("March 5", "5 March", Some(true)),
            ("March 5", "the 5th of March", Some(true)),
            ("March 5", "March 6", Some(false)),
            ("June 5, 2020", "5 June 2021", Some(false)),
            ("5", "5", None),
        ] {
            assert_eq!(same(a, b), wanted, "{a} {b}");
        }
    }
}
