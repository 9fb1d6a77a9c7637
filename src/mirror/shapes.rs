//! Shapes seen in real files, broken at random: what a fuzzer would try, within `cargo test`.

use std::fs::File;
use std::io::Write as _;

use chrono_tz::America::New_York;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::csv::{Again, Reader};
use super::records::Item;
use super::value::Format;
use crate::column::ColumnKind;

const FILES: [&str; 6] = [
    "Action_Date,Action_Id,Status,Sale_Amount\n2026-05-29T10:42:38-07:00,1000.4636.158133,PENDING,21.99\n",
    "Action_Id,Campaign\r\n1000.4636.158134,\"Acme, \"\"Outlet\"\"\"\r\n1000.4636.158135,Acme\r\n",
    "\u{feff}Id,Note\n1,\"two\nlines\"\n2,\"\"\n3,São Paulo\n",
    "Id,Agent\n1,\"Mozilla/5.0 (X11; Linux x86_64) \"\"like\"\" Gecko\"\n2,5'11\"\n",
    "Id,A,B\n1,,\n\n2,x,\n,,\n",
    "Id\n\"\"\n\"a\r\n\r\"\nb\r\r\n",
];

const VALUES: [&str; 24] = [
    "5.000000000000000000",
    "-0.00005",
    "$1,234.50",
    "1,234",
    "12345678901234567890.1",
    "9223372036854775807",
    "-9223372036854775808",
    "0.10",
    ".5",
    "007",
    "2026-05-29",
    "May 29, 2026",
    "2026-05",
    "May 2026",
    "2026-05-29T04:33:50-05:00",
    "2026-05-29T04:33:50-0600",
    "2026-05-29T04:33:50.123Z",
    "2026-05-29 04:33:50",
    "2026-03-08 02:30:00",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "true",
    "n/a",
    "1000.4636.158133",
];

/// One of the seeds with bytes cut out, put in and doubled.
fn broken(seeds: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![select(b",\"\n\r\0.-+:TZ 019$\xff".to_vec()), any::<u8>()];
    let change = (any::<Index>(), 0_usize..4, prop::collection::vec(byte, 0..4));
    (select(seeds), prop::collection::vec(change, 0..5)).prop_map(|(seed, changes)| {
        let mut bytes = seed.as_bytes().to_vec();
        for (at, cut, put) in changes {
            let from = at.index(bytes.len() + 1);
            let to = (from + cut).min(bytes.len());
            bytes.splice(from..to, put);
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_record_read_again_by_its_place_is_the_same(bytes in broken(&FILES), width in prop::option::of(1_usize..5)) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let mut again = Again::new(File::try_clone(&file).unwrap());
        let mut reader = Reader::new(bytes.as_slice());
        if let Some(width) = width {
            reader.expect_fields(width);
        }
        while let Some(item) = reader.next().unwrap() {
            let Item::Record(record) = item else { continue };
            let second = again.record(record.line, record.offset, record.raw.len()).unwrap();
            prop_assert_eq!(record.raw, second.raw);
            prop_assert_eq!(record.fields().collect::<Vec<_>>(), second.fields().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_value_is_taken_where_it_is_written_and_its_length_is_true(text in broken(&VALUES)) {
        for kind in ColumnKind::ALL {
            let format = Format { kind: Some(kind), takes_months: true };
            let mut out = Vec::new();
            let put = format.put(&mut out, &text, New_York);
            prop_assert_eq!(put.is_ok(), format.takes(&text, New_York), "{}", kind);
            let Ok(is_null) = put else { continue };
            let told = i32::from_be_bytes(out[..4].try_into().unwrap());
            prop_assert_eq!(is_null, told == -1);
            prop_assert_eq!(out.len() - 4, usize::try_from(told).unwrap_or(0));
        }
    }
}
