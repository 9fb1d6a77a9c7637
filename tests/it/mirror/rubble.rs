//! Files that are anything: each is loaded, accounted for and, read again, changes nothing.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;

fn rubble() -> impl Strategy<Value = Vec<u8>> {
    let field = prop_oneof![
        4 => "[0-9]{1,2}".prop_map(String::into_bytes),
        2 => "2026-05-0[1-9]".prop_map(String::into_bytes),
        1 => "[a-z\"\n\r.$-]{0,4}".prop_map(String::into_bytes),
        1 => any::<String>().prop_map(|text| format!("\"{}\"", text.replace('"', "\"\"")).into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    let record = prop::collection::vec(field, 1..5).prop_map(|fields| fields.join(&b','));
    prop::collection::vec(record, 0..30).prop_map(|records| records.join(&b'\n'))
}

#[tokio::test]
async fn any_file_is_accounted_for_and_read_again_changes_nothing() {
    let mut runner = TestRunner::deterministic();
    let (mut keyed, mut unkeyed, mut strict) = (Mirror::keyed().await, Mirror::unkeyed().await, Mirror::keyed().await);
    strict.on_type_conflict = OnTypeConflict::Quarantine;
    for _ in 0..40 {
        let records = rubble().new_tree(&mut runner).unwrap().current();
        let file = [b"Id,Day,A,B\n".as_slice(), &records].concat();
        for mirror in [&mut keyed, &mut unkeyed, &mut strict] {
            let first = mirror.load(&file).await;
            let second = mirror.load(&file).await;
            assert_eq!(counts(&second)[..3], [0, 0, 0], "{}", String::from_utf8_lossy(&file));
            assert_eq!(second.rows_read, first.rows_read);
            assert_eq!(second.rows_rejected, first.rows_rejected);
            if first.rows_rejected == 0 {
                assert_eq!(first.rows_per_day.values().sum::<u64>(), first.rows_read);
            }
        }
    }
}
