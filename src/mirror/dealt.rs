//! Deals records of a fixed size into parts: in memory while they are few, then in a file without a name, so that a part at a
//! time can be held, however many records there are.

use std::fs::File;
use std::io::{self, Write};
use std::marker::PhantomData;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// How many parts there are.
pub(super) const PARTS: usize = 256;

/// How much is held in memory before it goes into the file, in bytes.
const IN_MEMORY: usize = 4 << 20;

/// A record as words, to be put away and taken back.
pub(super) trait Words<const N: usize>: Sized {
    fn to_words(&self) -> [u64; N];
    fn of_words(words: [u64; N]) -> Self;
}

/// Records in parts.
pub(super) struct Dealt<T, const N: usize> {
    parts: Vec<Part>,
    held: usize,
    path: PathBuf,
    file: Option<File>,
    file_bytes: u64,
    count: u64,
    of: PhantomData<T>,
}

#[derive(Default)]
struct Part {
    held: Vec<u8>,
    /// Where more of it lies in the file, and how many bytes.
    spilled: Vec<(u64, usize)>,
}

impl<T: Words<N>, const N: usize> Dealt<T, N> {
    /// None yet. `path` names the file for the moment between its making and its unlinking.
    pub fn new(path: &Path) -> Self {
        Self {
            parts: (0..PARTS).map(|_| Part::default()).collect(),
            held: 0,
            path: path.to_owned(),
            file: None,
            file_bytes: 0,
            count: 0,
            of: PhantomData,
        }
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// Puts a record into a part.
    pub fn deal(&mut self, part: usize, record: &T) -> io::Result<()> {
        let held = &mut self.parts[part].held;
        for word in record.to_words() {
            held.extend_from_slice(&word.to_ne_bytes());
        }
        self.count += 1;
        self.held += N * size_of::<u64>();
        if self.held < IN_MEMORY { Ok(()) } else { self.spill() }
    }

    fn spill(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(unnamed(&self.path)?),
        };
        for part in self.parts.iter_mut().filter(|part| !part.held.is_empty()) {
            file.write_all(&part.held)?;
            part.spilled.push((self.file_bytes, part.held.len()));
            self.file_bytes += part.held.len() as u64;
            part.held.clear();
        }
        self.held = 0;
        Ok(())
    }

    /// Takes a part out, in the order in which it was dealt.
    pub fn take(&mut self, part: usize) -> io::Result<Vec<T>> {
        let Part { held, spilled } = std::mem::take(&mut self.parts[part]);
        let size = N * size_of::<u64>();
        let bytes = held.len() + spilled.iter().map(|(_, length)| length).sum::<usize>();
        let mut records = Vec::with_capacity(bytes / size);
        let mut chunk = Vec::new();
        for (offset, length) in spilled {
            chunk.resize(length, 0);
            self.file.as_ref().expect("what is spilled lies in the file").read_exact_at(&mut chunk, offset)?;
            records.extend(chunk.chunks_exact(size).map(record));
        }
        records.extend(held.chunks_exact(size).map(record));
        Ok(records)
    }
}

impl<T: Words<N>, const N: usize> Default for Dealt<T, N> {
    /// None, and none to come.
    fn default() -> Self {
        Self::new(Path::new(""))
    }
}

fn record<T: Words<N>, const N: usize>(bytes: &[u8]) -> T {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(size_of::<u64>())) {
        *word = u64::from_ne_bytes(bytes.try_into().expect("chunks of a word"));
    }
    T::of_words(words)
}

/// A file that nobody else finds, and that goes when it is closed, whatever becomes of this process.
pub(super) fn unnamed(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Words<1> for u64 {
        fn to_words(&self) -> [u64; 1] {
            [*self]
        }

        fn of_words([word]: [u64; 1]) -> Self {
            word
        }
    }

    #[test]
    fn what_was_dealt_comes_back_in_order_from_memory_and_from_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut dealt = Dealt::<u64, 1>::new(&dir.path().join("dealt"));
        let many = (IN_MEMORY / size_of::<u64>() * 5 / 2) as u64;
        for number in 0..many {
            dealt.deal((number % 3) as usize, &number).unwrap();
        }
        assert_eq!(dealt.count(), many);
        assert!(dealt.file_bytes > 0 && dealt.held > 0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        for (part, first) in (0_usize..3).zip(0_u64..) {
            assert!(dealt.take(part).unwrap().into_iter().eq((first..many).step_by(3)));
        }
        assert!(dealt.take(3).unwrap().is_empty());
    }
}
