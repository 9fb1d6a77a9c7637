//! What is true of the CSV reader, whatever file it is given.

use std::iter;

use csv_core::ReadRecordResult;
use memchr::memchr_iter;

use super::super::csv;
use super::super::records::{Reader, Shape};
use super::{Dripping, Kept, read_again, read_all as read_items};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Holds the reader to all of it.
pub fn check(file: &[u8]) {
    let free = read_all(file, usize::MAX, None);
    let header_width = free.first().and_then(|header| header.content.as_ref().ok()).map(|header| header.fields.len());
    for width in [None, header_width.or(Some(2))] {
        let items = read_all(file, usize::MAX, width);
        for piece in [1, 7] {
            assert_eq!(read_all(file, piece, width), items, "in pieces of {piece}");
        }
        lie_in_the_file(file, &items);
        read_again(file, &Shape::Csv { width: width.unwrap_or(0) }, &items);
        let mut records = items.iter().filter_map(|item| item.content.as_ref().ok());
        assert!(records.all(|record| width.is_none_or(|width| record.fields.len() == width)), "of the same fields");
    }
    agree_with_another_reader(file, &free);
}

/// The header, then records of so many fields; records of any where there is no such number.
fn read_all(file: &[u8], piece: usize, width: Option<usize>) -> Vec<Kept> {
    let mut reader = csv::Reader::new(Dripping(file, piece));
    let mut items = Vec::new();
    if let Some(width) = width {
        items.extend(reader.next().expect("memory can be read").map(Kept::new));
        reader.expect_fields(width);
    }
    items.extend(read_items(Reader::Csv(reader)).expect("memory can be read"));
    items
}

/// Items stand on the lines that they tell, one behind the other, and between them are nothing but ends of lines.
fn lie_in_the_file(file: &[u8], items: &[Kept]) {
    let mark = if file.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let lines: Vec<usize> = iter::once(mark).chain(memchr_iter(b'\n', file).map(|end| end + 1)).collect();
    let is_blank = |gap: &[u8]| gap.iter().all(|byte| b"\r\n".contains(byte));
    assert!(items.is_sorted_by(|one, next| one.line < next.line), "each begins on a line of its own");
    let mut known_to = Some(mark);
    for item in items {
        let from = lines[usize::try_from(item.line).expect("the file is in memory") - 1];
        assert!(file[from..].starts_with(&item.raw), "line {} is another", item.line);
        assert!(item.content.as_ref().is_ok_and(|content| content.offset == from) || item.content.is_err());
        assert!(known_to.is_none_or(|to| is_blank(&file[to..from])), "lost before line {}", item.line);
        known_to = (!item.is_cut()).then_some(from + item.raw.len());
    }
    assert!(known_to.is_none_or(|to| is_blank(&file[to..])), "lost at the end");
}

/// What is good by the standard is read as others read it. They take a carriage return alone for an end of line.
fn agree_with_another_reader(file: &[u8], items: &[Kept]) {
    let returns_alone = memchr_iter(b'\r', file).any(|at| file.get(at + 1) != Some(&b'\n'));
    if returns_alone || items.iter().any(|item| item.content.is_err()) {
        return;
    }
    let fields = items.iter().filter_map(|item| item.content.as_ref().ok()).map(|content| &content.fields);
    assert!(fields.eq(&by_another_reader(file)), "another reader has it otherwise");
}

fn by_another_reader(mut file: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let (mut text, mut ends) = (vec![0; file.len() + 1], vec![0; file.len() + 2]);
    let (mut written, mut ended) = (0, 0);
    let mut reader = csv_core::Reader::new();
    let mut records = Vec::new();
    loop {
        let (result, read, more_written, more_ended) =
            reader.read_record(file, &mut text[written..], &mut ends[ended..]);
        file = &file[read..];
        written += more_written;
        ended += more_ended;
        match result {
            ReadRecordResult::Record => {
                let starts = iter::once(&0).chain(&ends);
                records.push(starts.zip(&ends[..ended]).map(|(from, to)| text[*from..*to].to_vec()).collect());
                (written, ended) = (0, 0);
            }
            ReadRecordResult::InputEmpty => {}
            ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => panic!("there is room for all"),
            ReadRecordResult::End => return records,
        }
    }
}
