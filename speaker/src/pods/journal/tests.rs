use super::*;
use crate::pods::record::tests::record;

fn names(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| record.owner.uid.as_str()).collect()
}

/// A file that goes with the test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("roadstead-journal-{}-{name}", std::process::id()));
        Self(directory.join("pods.journal"))
    }

    fn records(&self) -> Vec<Record> {
        Journal::open(&self.0).unwrap().1
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.parent().unwrap());
    }
}

#[test]
fn what_was_noted_is_there_when_it_is_opened_again() {
    let place = Place::new("again");
    let (mut journal, records) = Journal::open(&place.0).unwrap();
    assert!(records.is_empty());
    for uid in ["a", "b", "c"] {
        journal.has(&record(uid, "192.0.2.1")).unwrap();
    }
    journal.has(&record("a", "192.0.2.9")).unwrap();
    journal.gone(&record("b", "192.0.2.1").owner).unwrap();
    let records = place.records();
    assert_eq!(names(&records), ["a", "c"]);
    assert_eq!(records[0], record("a", "192.0.2.9"), "the newest counts");
}

#[test]
fn torn_at_any_octet_it_has_all_that_was_whole() {
    let place = Place::new("torn");
    let (mut journal, _) = Journal::open(&place.0).unwrap();
    journal.has(&record("a", "192.0.2.1")).unwrap();
    let first = fs::read(&place.0).unwrap().len();
    journal.has(&record("b", "192.0.2.2")).unwrap();
    let whole = fs::read(&place.0).unwrap();
    for length in 0..=whole.len() {
        fs::write(&place.0, &whole[..length]).unwrap();
        // The last line counts without its end as well: it is whole.
        let expected: &[&str] = match length {
            _ if length >= whole.len() - 1 => &["a", "b"],
            _ if length >= first - 1 => &["a"],
            _ => &[],
        };
        assert_eq!(names(&place.records()), expected, "torn at {length}");
        // And what comes next is not glued to it.
        let (mut journal, _) = Journal::open(&place.0).unwrap();
        journal.has(&record("c", "192.0.2.3")).unwrap();
        assert_eq!(names(&place.records()), [expected, &["c"]].concat(), "torn at {length}, and written on");
    }
}

#[test]
fn garbage_costs_only_itself() {
    let place = Place::new("garbage");
    let (mut journal, _) = Journal::open(&place.0).unwrap();
    journal.has(&record("a", "192.0.2.1")).unwrap();
    let mut bytes = b"\xff\x00 garbage\n{}\n[1]\n\n".to_vec();
    bytes.extend(fs::read(&place.0).unwrap());
    fs::write(&place.0, bytes).unwrap();
    assert_eq!(names(&place.records()), ["a"]);
}

#[test]
fn history_does_not_grow_for_ever() {
    let place = Place::new("history");
    let (mut journal, _) = Journal::open(&place.0).unwrap();
    let one = record("a", "192.0.2.1");
    for _ in 0..3 * SLACK {
        journal.has(&one).unwrap();
        journal.gone(&one.owner).unwrap();
        journal.tidy([].into_iter()).unwrap();
    }
    let lines = fs::read_to_string(&place.0).unwrap().lines().count();
    assert!(lines <= SLACK, "{lines} lines for nothing");
}
