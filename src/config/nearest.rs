//! Words that somebody may have meant.

/// The known word that a misspelt one most likely means.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    known
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3).min(4))
        .min()
        .map(|(_, candidate)| candidate)
}

/// The known handles that are most like a word, the best first: those that it is a slip of the finger for, else those that have the
/// most of its parts, half of them at least. At most five.
pub fn similar<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let word = word.to_lowercase();
    let wanted: Vec<&str> = parts(&word).collect();
    let score = |candidate: &str| {
        let candidate = candidate.to_lowercase();
        let letters = distance(&word, &candidate);
        let is_slip = letters <= candidate.len().div_ceil(3).min(4);
        let shared = wanted.iter().filter(|part| parts(&candidate).any(|other| other == **part)).count();
        let missing = if is_slip { 0 } else { wanted.len() - shared };
        (is_slip || 2 * shared >= wanted.len().max(2)).then_some((!is_slip, missing, letters))
    };
    let mut found: Vec<_> = known.filter_map(|candidate| Some((score(candidate)?, candidate))).collect();
    found.sort_unstable();
    found.dedup();
    let best = found.first().map(|((slip, missing, _), _)| (*slip, *missing));
    let is_as_good = |((slip, missing, _), _): &((bool, usize, usize), &str)| Some((*slip, *missing)) == best;
    found.into_iter().filter(is_as_good).take(5).map(|(_, candidate)| candidate).collect()
}

/// The words that a handle is made of.
fn parts(handle: &str) -> impl Iterator<Item = &str> {
    handle.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| part.len() > 1)
}

/// The number of letters to insert, delete, replace or swap with their neighbour.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![vec![0; to.len() + 1]; from.len() + 1];
    for i in 0..=from.len() {
        for j in 0..=to.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
                let swapped = i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1];
                let swapped = if swapped { rows[i - 2][j - 2] + 1 } else { replaced };
                replaced.min(swapped).min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1)
            };
        }
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_word() {
        let known = ["since", "schedule", "report"];
        assert_eq!(nearest("sinze", known.into_iter()), Some("since"));
        assert_eq!(nearest("sicne", known.into_iter()), Some("since"));
        assert_eq!(nearest("Schedul", known.into_iter()), Some("schedule"));
        assert_eq!(nearest("banana", known.into_iter()), None);
    }

    #[test]
    fn a_handle_is_found_by_its_words_and_by_its_letters() {
        let known = [
            "adv_action_listing_pm_only",
            "att_adv_performance_by_media_pm_only",
            "att_adv_performance_by_day_pm_only",
        ];
        assert_eq!(similar("adv_action_listing", known.into_iter()), [known[0]]);
        assert_eq!(similar("adv_acton_listing_pm_only", known.into_iter()), [known[0]]);
        assert_eq!(similar("performance_by_day", known.into_iter()), [known[2]]);
        assert_eq!(similar("performance_by_ad", known.into_iter()), [known[2], known[1]]);
        assert_eq!(similar("banana", known.into_iter()), Vec::<&str>::new());
    }
}
