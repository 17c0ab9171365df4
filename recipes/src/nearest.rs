//! The nearest known name to one that is not known.

/// A sentence that names the nearest candidate, if one is near: fewer changes than half the word has letters, and about one
/// in four. Hyphens, underscores and capitals count for nothing.
pub(crate) fn did_you_mean<'a>(found: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    let plain = |word: &str| word.to_lowercase().replace(['-', '_', ' '], "");
    let wanted = plain(found);
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &plain(candidate)), candidate))
        .min()
        .filter(|(distance, candidate)| {
            *distance <= 1 + candidate.len() / 4 && 2 * distance < wanted.chars().count()
        })
        .map_or_else(String::new, |(_, candidate)| format!("\ndid you mean `{candidate}`?"))
}
