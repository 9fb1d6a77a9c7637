use super::*;

/// The records of a file, found in one piece, and the same byte by byte.
fn records(file: &str) -> Result<Vec<String>, NoResult> {
    let whole = found(file, usize::MAX);
    assert_eq!(found(file, 1), whole, "{file}");
    assert_eq!(found(file, 3), whole, "{file}");
    whole
}

fn found(file: &str, length: usize) -> Result<Vec<String>, NoResult> {
    let (mut scanner, mut found, mut record, mut is_within) = (Scanner::default(), Vec::new(), Vec::new(), false);
    for mut piece in file.as_bytes().chunks(length.min(file.len().max(1))) {
        loop {
            let (taken, step) = scanner.step(piece)?;
            if is_within {
                record.extend_from_slice(&piece[..taken]);
            }
            piece = &piece[taken..];
            match step {
                Step::More => break,
                Step::Begin => is_within = true,
                Step::End => {
                    is_within = false;
                    found.push(String::from_utf8(std::mem::take(&mut record)).unwrap());
                }
            }
        }
    }
    scanner.finish().map(|()| found)
}

#[test]
fn records_are_found_in_every_shape() {
    let one = r#"{"Id":"1","Note":"a \"}]\\","Nested":{"a":[1,{"b":"}"}]}}"#;
    let two = r#"{"Id":2}"#;
    for file in [
        format!(r#"{{"Records":[{one},{two}]}}"#),
        format!(
            "\u{feff}\r\n{{ \"@page\" : \"1\",\"@deep\":{{\"x\":[1]}},\r\n \"Records\" : [ {one} ,\r\n{two}\r\n] , \"@total\" : 2 }}\r\n"
        ),
        format!(r#"{{"Clicks":[{one},{two}],"@uri":null,"Warnings":["x"]}}"#),
        format!("[{one},{two}]"),
        format!("\n[\n  {one},\n  {two}\n]\n"),
    ] {
        assert_eq!(records(&file), Ok(vec![one.to_owned(), two.to_owned()]), "{file}");
    }
    let odd = ["null", "1.5e3", "\"x\"", "[]", "true"].map(str::to_owned);
    assert_eq!(records(&format!("[{}]", odd.join(" , "))), Ok(odd.to_vec()), "no records, but each in its place");
}

#[test]
fn an_empty_result_has_many_shapes() {
    for file in [
        "",
        " \n",
        "null",
        "null\n",
        "{}",
        "[]",
        " [ ] ",
        r#"{"Records":[]}"#,
        r#"{"records":null}"#,
        r#"{"Clicks": { }}"#,
        r#"{"@page":"1","@total":"0"}"#,
        "\u{feff}",
    ] {
        assert_eq!(records(file), Ok(Vec::new()), "{file}");
    }
}

#[test]
fn a_file_cut_off_anywhere_is_no_result() {
    let file = r#"{"@page":"1","Records":[{"Id":"a\"b","N":null},{"Id":2}],"@total":"2"}"#;
    for length in 1..file.len() {
        let found = records(&file[..length]);
        assert!(matches!(found, Err(NoResult::Cut { bytes, .. }) if bytes == length as u64), "{length}: {found:?}");
    }
    assert!(matches!(records("[{},{}"), Err(NoResult::Cut { bytes: 6, records: 2 })));
}

#[test]
fn what_is_no_result_is_told() {
    for (file, told) in [
        ("[{}]x", "byte 4 is 'x', where the end of the file should be"),
        ("[{}][{}]", "byte 4 is '[', where the end of the file should be"),
        ("{}\n{}", "byte 3 is '{', where the end of the file should be"),
        ("[{}{}]", "byte 3 is '{', where a comma or the end of the list should be"),
        ("[{},]", "byte 4 is ']', where a record or the end of the list should be"),
        ("[,]", "byte 1 is ',', where a record or the end of the list should be"),
        ("Id,Day", "byte 0 is 'I', where the object or the list of a result should be"),
        (r#"{"Records":[],}"#, "byte 14 is '}', where a name should be"),
        (r#"{"Records" []}"#, "byte 11 is '[', where a colon should be"),
        (r#"{"Records":"none"}"#, "byte 11 is '\"', where the list of records should be"),
        (r#"{"Records":{"Id":1}}"#, "byte 12 is '\"', where the end of an empty object should be"),
        (r#"{"Records":[],"Clicks":[]}"#, "it has a second list of records, from byte 23"),
        (r#"{"Id":"7","Type":"ApiReport"}"#, "it is an object without a list of Records or Clicks; it has Id, Type"),
        (r#"{"Status":"ERROR","Message":"no such report"}"#, "it says that the export failed: no such report"),
        (r#"{"Records":[],"Status":"Error"}"#, "it says that the export failed: no reason given"),
        ("no such report", "byte 1 is 'o', where the end of null should be"),
        ("nope", "byte 3 is 'e', where the end of null should be"),
        ("null, or not", "byte 4 is ',', where the end of the file should be"),
        (r#"{"Records":none}"#, "byte 14 is 'e', where the end of null should be"),
    ] {
        assert_eq!(records(file).map_err(|problem| problem.to_string()), Err(told.to_owned()), "{file}");
    }
}
