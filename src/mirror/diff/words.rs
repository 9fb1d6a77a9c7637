//! How what is compared is put away: as words, which lie in a file as they do in memory.

use super::{Change, Duplicate, Entry, Identity, Place, Span, Standing, Tid};
use crate::mirror::dealt::Words;

fn halves(hash: u128) -> [u64; 2] {
    [(hash >> 64) as u64, hash as u64]
}

fn joined(high: u64, low: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}

fn pair(one: u32, other: u32) -> u64 {
    u64::from(one) << 32 | u64::from(other)
}

fn unpaired(pair: u64) -> (u32, u32) {
    ((pair >> 32) as u32, pair as u32)
}

impl Words<2> for Identity {
    fn to_words(&self) -> [u64; 2] {
        halves(*self)
    }

    fn of_words([high, low]: [u64; 2]) -> Self {
        joined(high, low)
    }
}

impl Words<7> for Entry {
    fn to_words(&self) -> [u64; 7] {
        let ([id_high, id_low], [high, low]) = (halves(self.identity), halves(self.row_hash));
        let Span { line, offset, length } = self.at;
        [id_high, id_low, high, low, pair(self.day.cast_unsigned(), length), line, offset]
    }

    fn of_words([id_high, id_low, high, low, day_and_length, line, offset]: [u64; 7]) -> Self {
        let (day, length) = unpaired(day_and_length);
        let at = Span { line, offset, length };
        Self { identity: joined(id_high, id_low), row_hash: joined(high, low), day: day.cast_signed(), at }
    }
}

impl Words<2> for Place {
    fn to_words(&self) -> [u64; 2] {
        [pair(self.table, self.day.cast_unsigned()), pair(self.tid.block, u32::from(self.tid.number))]
    }

    fn of_words([table_and_day, tid]: [u64; 2]) -> Self {
        let ((table, day), (block, number)) = (unpaired(table_and_day), unpaired(tid));
        Self { table, day: day.cast_signed(), tid: Tid { block, number: number as u16 } }
    }
}

/// Only rows with an identity are put away.
impl Words<6> for Standing {
    fn to_words(&self) -> [u64; 6] {
        let ([id_high, id_low], [high, low]) = (halves(self.identity.unwrap_or_default()), halves(self.row_hash));
        let [table_and_day, tid] = self.place.to_words();
        [id_high, id_low, high, low, table_and_day, tid]
    }

    fn of_words([id_high, id_low, high, low, table_and_day, tid]: [u64; 6]) -> Self {
        let place = Place::of_words([table_and_day, tid]);
        Self { identity: Some(joined(id_high, id_low)), row_hash: joined(high, low), place }
    }
}

impl Words<5> for Change {
    fn to_words(&self) -> [u64; 5] {
        let Span { line, offset, length } = self.at;
        let [table_and_day, tid] = self.old.map_or([0, 0], |old| old.to_words());
        // A tuple's number begins with 1, so that a tid is never 0.
        [line, offset, length.into(), table_and_day, tid]
    }

    fn of_words([line, offset, length, table_and_day, tid]: [u64; 5]) -> Self {
        let at = Span { line, offset, length: length as u32 };
        Self { at, old: (tid != 0).then(|| Place::of_words([table_and_day, tid])) }
    }
}

impl Words<4> for Duplicate {
    fn to_words(&self) -> [u64; 4] {
        let Span { line, offset, length } = self.at;
        [line, offset, length.into(), self.first_line]
    }

    fn of_words([line, offset, length, first_line]: [u64; 4]) -> Self {
        Self { at: Span { line, offset, length: length as u32 }, first_line }
    }
}
