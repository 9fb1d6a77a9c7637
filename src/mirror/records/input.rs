//! The bytes of a file: one after the other in bounded memory, or by their place.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

/// The longest record that is held in memory. This and the two below are small when fuzzing, so that short files come to
/// every limit.
pub(in crate::mirror) const MAX_RECORD: usize = if cfg!(fuzzing) { 200 } else { 4 << 20 };

const FIRST_BUFFER: usize = if cfg!(fuzzing) { 16 } else { 256 << 10 };

/// How much is read by place at once: records that are wanted may stand side by side or far from each other.
const AHEAD: usize = if cfg!(fuzzing) { 64 } else { 16 << 10 };

/// What was read of a file and is not used up.
pub(in crate::mirror) struct Input<R> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Nothing will come behind what is there.
    pub ended: bool,
    /// Where in the file that begins.
    pub offset: u64,
}

impl<R: Read> Input<R> {
    pub fn new(source: R) -> Self {
        Self { source, buffer: vec![0; FIRST_BUFFER], start: 0, end: 0, ended: false, offset: 0 }
    }

    /// What is there.
    pub fn data(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Whether nothing more can be read behind what is there.
    pub fn is_full(&self) -> bool {
        self.ended || self.end - self.start >= MAX_RECORD
    }

    /// Uses bytes up.
    pub fn drop(&mut self, bytes: usize) {
        self.start += bytes;
        self.offset += bytes as u64;
    }

    /// Reads on behind what is there, making room first.
    pub fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == self.buffer.len() {
            self.buffer.resize((self.buffer.len() * 2).min(MAX_RECORD), 0);
        }
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            return Ok(());
        }
    }
}

/// A file of which pieces are read by place. Fast where the places ascend.
pub(in crate::mirror) struct Pieces {
    file: File,
    window: Vec<u8>,
    window_at: u64,
}

impl Pieces {
    pub fn new(file: File) -> Self {
        Self { file, window: Vec::new(), window_at: 0 }
    }

    /// So many bytes from there.
    pub fn piece(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        self.reach(offset, length)?;
        let from = usize::try_from(offset - self.window_at).expect("the window holds the piece");
        Ok(&self.window[from..from + length])
    }

    fn reach(&mut self, offset: u64, length: usize) -> io::Result<()> {
        let window_end = self.window_at + self.window.len() as u64;
        if offset >= self.window_at && offset + length as u64 <= window_end {
            return Ok(());
        }
        self.window.resize(length.max(AHEAD), 0);
        self.window_at = offset;
        let mut filled = 0;
        while filled < self.window.len() {
            match self.file.read_at(&mut self.window[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.window.truncate(filled);
        if filled < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}
