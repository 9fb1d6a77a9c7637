//! Finds where a record ends that is too long to be held, through a second handle on its file. No bytes are held but a piece,
//! and the reader itself has not moved, so that it can go on with the next line where there is no such end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use memchr::{memchr, memchr2};

/// How much is read at once.
const PIECE: usize = 64 << 10;

/// The end of the record that begins at `offset`; `None` where its quoting is broken, or never ends.
pub(super) fn end_of_record(file: &File, offset: u64) -> io::Result<Option<u64>> {
    let mut piece = vec![0; PIECE];
    let mut scan = Scan::default();
    let mut at = offset;
    loop {
        let read = match file.read_at(&mut piece, at) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if read == 0 {
            return Ok(scan.may_end().then_some(at));
        }
        match scan.take(&piece[..read]) {
            Scanned::More => at += read as u64,
            Scanned::End { taken } => return Ok(Some(at + taken as u64)),
            Scanned::Broken => return Ok(None),
        }
    }
}

/// Where in a record we are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Scan {
    #[default]
    FieldStart,
    Plain,
    Quoted,
    /// Behind a quote within quotes: its double, or the end of the field.
    Quote,
    /// Behind that, and a carriage return.
    Return,
}

enum Scanned {
    More,
    /// The record ends within the piece, its end of line included.
    End {
        taken: usize,
    },
    Broken,
}

impl Scan {
    fn take(&mut self, piece: &[u8]) -> Scanned {
        let mut at = 0;
        while at < piece.len() {
            let skipped = match self {
                Self::Plain => memchr2(b',', b'\n', &piece[at..]),
                Self::Quoted => memchr(b'"', &piece[at..]),
                Self::FieldStart | Self::Quote | Self::Return => Some(0),
            };
            let Some(skipped) = skipped else { break };
            at += skipped + 1;
            *self = match (*self, piece[at - 1]) {
                (Self::FieldStart | Self::Quote, b'"') => Self::Quoted,
                (Self::Quoted, _) => Self::Quote,
                (_, b'\n') => return Scanned::End { taken: at },
                (Self::FieldStart | Self::Plain | Self::Quote, b',') => Self::FieldStart,
                (Self::FieldStart | Self::Plain, _) => Self::Plain,
                (Self::Quote, b'\r') => Self::Return,
                (Self::Quote | Self::Return, _) => return Scanned::Broken,
            };
        }
        Scanned::More
    }

    /// Whether the record is whole where the file ends.
    fn may_end(self) -> bool {
        self != Self::Quoted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::rubble;
    use super::super::{Split, split};
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_record_ends_where_it_does_for_the_reader_that_holds_it(file in rubble(), length in 1_usize..9) {
            let mut scan = Scan::default();
            let mut found = None;
            for (index, piece) in file.chunks(length).enumerate() {
                match scan.take(piece) {
                    Scanned::More => {}
                    Scanned::End { taken } => {
                        found = Some(Some(index * length + taken));
                        break;
                    }
                    Scanned::Broken => {
                        found = Some(None);
                        break;
                    }
                }
            }
            let found = found.unwrap_or_else(|| scan.may_end().then_some(file.len()));
            let expected = match split(&file, true, &mut Vec::new(), &mut Vec::new()) {
                Split::End => Some(0),
                Split::Blank { taken } | Split::Record { taken, .. } => Some(taken),
                Split::Broken(_) | Split::More => None,
            };
            prop_assert_eq!(found, expected);
        }
    }
}
