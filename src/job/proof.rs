//! Whether a file proves to be whole by the number of its rows, whether its window holds it alone, and what a doubt leads to.
//! Pure.

use std::collections::BTreeSet;

use super::narrow::is_cut;
use crate::doubt::{Doubt, Figures, OnDoubt, OnDoubts};

/// What is doubtful about a file that was read to its end. `max_rows` is the known cap of its report.
pub fn doubts(figures: Figures, max_rows: Option<u32>) -> Vec<Doubt> {
    let Figures { rows, told, deleted, rejected: _, stale } = figures;
    let holds = |doubt: &Doubt| match doubt {
        Doubt::CountMismatch => told.is_some_and(|told| told != rows),
        Doubt::UnexpectedZero => rows == 0 && deleted > 0,
        Doubt::Truncated => is_cut(rows, max_rows),
        Doubt::KeptDeletions => stale > 0,
    };
    Doubt::ALL.into_iter().filter(holds).collect()
}

/// Whether such a file may have lost rows on its way to us, so that fetching it once more can help: it is believed only
/// where it comes the same again.
pub fn wants_another_fetch(figures: Figures) -> bool {
    figures.told.is_some_and(|told| figures.rows < told) || (figures.rows == 0 && figures.deleted > 0)
}

/// Which doubts about what stands in a window stay, where a file leaves it as it is: nothing has become clearer by reading the
/// same again. Of those that the file itself raises, `figures` tell.
pub fn carried_over(before: &[Doubt], figures: Figures) -> Vec<Doubt> {
    let stays = |doubt: &Doubt| match doubt {
        Doubt::CountMismatch => figures.told.is_none(),
        Doubt::UnexpectedZero => figures.rows == 0,
        Doubt::Truncated | Doubt::KeptDeletions => false,
    };
    before.iter().copied().filter(stays).collect()
}

/// What a doubtful file leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Load it, with these doubts on the load.
    Load(Vec<Doubt>),
    /// Load nothing, because of this one.
    Refuse(Doubt),
}

/// Decides by the settings of the export. What was `carried` over is no reason to refuse: what it is about stands there already.
pub fn judge(doubts: Vec<Doubt>, carried: Vec<Doubt>, on_doubts: &OnDoubts) -> Verdict {
    match doubts.iter().find(|doubt| on_doubts.about(**doubt) == OnDoubt::Refuse) {
        Some(refused) => Verdict::Refuse(*refused),
        None => Verdict::Load(worth_telling(all(doubts, carried), on_doubts)),
    }
}

/// The doubts of both, each once, in the order they are shown.
pub fn all(doubts: Vec<Doubt>, carried: Vec<Doubt>) -> Vec<Doubt> {
    doubts.into_iter().chain(carried).collect::<BTreeSet<Doubt>>().into_iter().collect()
}

/// The doubts that stay on a load: those that the export does not ignore. A file that is loaded again from the archive keeps them,
/// but is not refused: it was loaded before, and there is nothing else to be had.
pub fn worth_telling(doubts: Vec<Doubt>, on_doubts: &OnDoubts) -> Vec<Doubt> {
    doubts.into_iter().filter(|doubt| on_doubts.about(*doubt) != OnDoubt::Ignore).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WARN: OnDoubts =
        OnDoubts { count_mismatch: OnDoubt::Warn, unexpected_zero: OnDoubt::Warn, truncation: OnDoubt::Warn };

    fn found(rows: u64, told: Option<u64>, deleted: u64) -> Vec<Doubt> {
        doubts(Figures { rows, told, deleted, ..Figures::default() }, Some(77))
    }

    #[test]
    fn a_file_is_doubtful_where_its_count_is_not_the_one_told() {
        assert_eq!(found(5, Some(5), 3), []);
        assert_eq!(found(5, None, 0), [], "nothing was told");
        for told in [4, 6] {
            assert_eq!(found(5, Some(told), 0), [Doubt::CountMismatch]);
        }
    }

    #[test]
    fn no_rows_are_doubtful_only_where_there_were_some() {
        assert_eq!(found(0, Some(0), 0), []);
        assert_eq!(found(0, Some(0), 9), [Doubt::UnexpectedZero]);
        assert_eq!(found(0, Some(9), 9), [Doubt::CountMismatch, Doubt::UnexpectedZero]);
    }

    #[test]
    fn a_file_as_long_as_a_cap_may_be_cut() {
        assert_eq!(found(77, Some(77), 0), [Doubt::Truncated]);
        assert_eq!(found(100_000, Some(100_000), 0), [Doubt::Truncated]);
    }

    #[test]
    fn rows_that_stay_because_of_others_without_a_key_are_doubtful_and_never_refused() {
        let stale = doubts(Figures { rows: 9, rejected: 1, stale: 2, ..Figures::default() }, None);
        assert_eq!(stale, [Doubt::KeptDeletions]);
        let refusing =
            OnDoubts { count_mismatch: OnDoubt::Refuse, unexpected_zero: OnDoubt::Refuse, truncation: OnDoubt::Refuse };
        assert_eq!(judge(stale.clone(), vec![], &refusing), Verdict::Load(stale));
    }

    #[test]
    fn only_what_may_have_been_lost_on_the_way_is_fetched_again() {
        let wants = |rows, told, deleted| wants_another_fetch(Figures { rows, told, deleted, ..Figures::default() });
        assert!(wants(4, Some(5), 0) && wants(0, None, 1) && wants(0, Some(0), 1));
        assert!(!wants(6, Some(5), 0) && !wants(0, None, 0) && !wants(5, None, 1));
    }

    #[test]
    fn what_is_doubtful_stays_so_until_a_file_tells_better() {
        let carried = |before: &[Doubt], rows, told| carried_over(before, Figures { rows, told, ..Figures::default() });
        assert_eq!(carried(&Doubt::ALL, 0, None), [Doubt::CountMismatch, Doubt::UnexpectedZero]);
        assert_eq!(carried(&Doubt::ALL, 0, Some(0)), [Doubt::UnexpectedZero]);
        assert_eq!(carried(&Doubt::ALL, 3, Some(3)), []);
    }

    #[test]
    fn a_doubt_that_was_carried_over_is_told_and_refuses_nothing() {
        let on = |unexpected_zero| OnDoubts { unexpected_zero, ..WARN };
        let carried = || vec![Doubt::UnexpectedZero];
        assert_eq!(judge(vec![], carried(), &on(OnDoubt::Refuse)), Verdict::Load(carried()));
        assert_eq!(judge(vec![], carried(), &on(OnDoubt::Ignore)), Verdict::Load(vec![]));
        assert_eq!(judge(carried(), carried(), &on(OnDoubt::Warn)), Verdict::Load(carried()));
        let both = judge(vec![Doubt::UnexpectedZero], vec![Doubt::CountMismatch], &WARN);
        assert_eq!(both, Verdict::Load(vec![Doubt::CountMismatch, Doubt::UnexpectedZero]));
    }

    #[test]
    fn the_settings_decide_doubt_by_doubt() {
        let judge = |doubts, on_doubts: &OnDoubts| judge(doubts, vec![], on_doubts);
        let on =
            |count_mismatch| OnDoubts { count_mismatch, unexpected_zero: OnDoubt::Warn, truncation: OnDoubt::Warn };
        let both = || vec![Doubt::CountMismatch, Doubt::UnexpectedZero];
        assert_eq!(judge(both(), &on(OnDoubt::Warn)), Verdict::Load(both()));
        assert_eq!(judge(both(), &on(OnDoubt::Ignore)), Verdict::Load(vec![Doubt::UnexpectedZero]));
        assert_eq!(judge(both(), &on(OnDoubt::Refuse)), Verdict::Refuse(Doubt::CountMismatch));
        assert_eq!(worth_telling(both(), &on(OnDoubt::Refuse)), both());
        assert_eq!(worth_telling(both(), &on(OnDoubt::Ignore)), [Doubt::UnexpectedZero]);
        assert_eq!(judge(vec![Doubt::Truncated], &on(OnDoubt::Refuse)), Verdict::Load(vec![Doubt::Truncated]));
    }
}
