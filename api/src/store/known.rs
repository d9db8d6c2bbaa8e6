//! What one watch has told its consumer: enough to tell a change from a repetition, and no more.
//!
//! Both homes repeat themselves: the API server lists everything again after a watch broke for long, the directory store wakes a
//! watch for an object that may look as before. A consumer must see neither, nor miss what happened in between. So each watch
//! keeps the UID and `resourceVersion` of every object that it told of, and compares. The objects themselves are not kept: they
//! are the consumer's.

use std::collections::HashMap;
use std::mem;

use super::ObjectKey;

/// The objects that a watch has told of.
#[derive(Debug, Default)]
pub(super) struct Known {
    told: HashMap<ObjectKey, Version>,
    /// While a list is read: what was told before it and has not come up in it yet.
    before: HashMap<ObjectKey, Version>,
}

/// Which object of a name it was, and which version of it.
#[derive(Debug, PartialEq, Eq)]
struct Version {
    uid: Box<str>,
    resource_version: Box<str>,
}

/// What has to be told about an object that is there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing: it was told.
    None,
    /// It is new, or changed.
    Applied,
    /// The one of this UID is gone, and another has its name.
    Replaced(String),
}

impl Known {
    /// Takes note of an object that is there.
    pub(super) fn applied(&mut self, key: &ObjectKey, uid: &str, resource_version: &str) -> Change {
        let version = Version { uid: uid.into(), resource_version: resource_version.into() };
        let earlier = self.before.remove(key).or_else(|| self.told.remove(key));
        let change = match earlier {
            Some(earlier) if earlier == version => Change::None,
            Some(earlier) if earlier.uid != version.uid => Change::Replaced(earlier.uid.into()),
            _ => Change::Applied,
        };
        self.told.insert(key.clone(), version);
        change
    }

    /// Takes note that an object is gone. The answer is its UID, or nothing when it was never told.
    pub(super) fn deleted(&mut self, key: &ObjectKey) -> Option<String> {
        let told = self.told.remove(key).or_else(|| self.before.remove(key));
        told.map(|version| version.uid.into())
    }

    /// A complete list begins. One that was broken off counts for nothing: what it did not reach is still to come up.
    pub(super) fn begin_list(&mut self) {
        let told = mem::take(&mut self.told);
        self.before.extend(told);
    }

    /// The list is complete: what did not come up in it is gone, with these UIDs.
    pub(super) fn end_list(&mut self) -> Vec<(ObjectKey, String)> {
        let gone = mem::take(&mut self.before);
        let mut gone: Vec<(ObjectKey, String)> = gone.into_iter().map(|(key, v)| (key, v.uid.into())).collect();
        // Map order is not an order that anybody should see.
        gone.sort();
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Kind;

    /// One step of a story, as the API server would tell it.
    enum Step {
        Begin,
        End,
        Apply(&'static str, &'static str, &'static str),
        Delete(&'static str),
    }
    use Step::{Apply, Begin, Delete, End};

    fn key(name: &str) -> ObjectKey {
        ObjectKey { kind: Kind::Node, namespace: String::new(), name: name.to_owned() }
    }

    /// Runs a story; what the consumer is told reads `+a` and `-a/uid`.
    fn told(steps: &[Step]) -> String {
        let mut known = Known::default();
        let mut told = Vec::new();
        for step in steps {
            match step {
                Begin => known.begin_list(),
                End => told.extend(known.end_list().into_iter().map(|(key, uid)| format!("-{}/{uid}", key.name))),
                Apply(name, uid, version) => match known.applied(&key(name), uid, version) {
                    Change::None => {}
                    Change::Applied => told.push(format!("+{name}")),
                    Change::Replaced(uid) => told.extend([format!("-{name}/{uid}"), format!("+{name}")]),
                },
                Delete(name) => told.extend(known.deleted(&key(name)).map(|uid| format!("-{name}/{uid}"))),
            }
        }
        told.join(" ")
    }

    #[track_caller]
    fn check(what: &str, steps: &[Step], expected: &str) {
        assert_eq!(told(steps), expected, "{what}");
    }

    #[test]
    fn a_consumer_sees_changes_and_no_lists() {
        let first = || [Begin, Apply("a", "1", "10"), Apply("b", "2", "11"), End];
        let after = |more: Vec<Step>| first().into_iter().chain(more).collect::<Vec<_>>();
        check("first list", &first(), "+a +b");
        check("the same again", &after(first().into()), "+a +b");
        check("changed meanwhile", &after(vec![Begin, Apply("a", "1", "12"), Apply("b", "2", "11"), End]), "+a +b +a");
        check("gone meanwhile", &after(vec![Begin, Apply("b", "2", "11"), End]), "+a +b -a/1");
        check("all gone meanwhile", &after(vec![Begin, End]), "+a +b -a/1 -b/2");
        check(
            "replaced meanwhile",
            &after(vec![Begin, Apply("a", "3", "13"), Apply("b", "2", "11"), End]),
            "+a +b -a/1 +a",
        );
        check("watched change", &after(vec![Apply("a", "1", "12")]), "+a +b +a");
        check("watched repetition", &after(vec![Apply("a", "1", "10")]), "+a +b");
        check("watched deletion", &after(vec![Delete("a"), Delete("a")]), "+a +b -a/1");
        check("watched replacement", &after(vec![Delete("a"), Apply("a", "3", "12")]), "+a +b -a/1 +a");
        check("deleted, then listed", &after(vec![Delete("a"), Begin, Apply("b", "2", "11"), End]), "+a +b -a/1");
    }

    #[test]
    fn a_list_that_is_broken_off_deletes_nothing() {
        let story = [
            Begin,
            Apply("a", "1", "1"),
            Apply("b", "2", "2"),
            End,
            Begin,
            Apply("a", "1", "3"),
            Begin,
            Apply("b", "2", "2"),
            Apply("a", "1", "3"),
            End,
        ];
        check("broken off, then complete", &story, "+a +b +a");
        let story = [Begin, Apply("a", "1", "1"), Begin, End];
        check("first list broken off, gone in the second", &story, "+a -a/1");
    }
}
