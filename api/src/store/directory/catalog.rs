//! Which file gives which object, and which version of it is in force.
//!
//! Three rules, none of which knows a clock or a disk:
//! - An object whose manifest is broken stays as it last was. Where a document cannot even be read far enough to say which object it
//!   is, every object that the file gave before and does not give now may be the one, and all of them stay.
//! - An object in two places is in force from the first: by path, then by document. The other place is a problem.
//! - An object that no file gives any more is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::manifest::{Outcome, Reading};
use super::problem::{Fault, Place, Problem};
use crate::store::{Object, ObjectKey};

/// All files, and what each gives.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    files: BTreeMap<PathBuf, File>,
    /// Which files give an object: the first is in force.
    holders: BTreeMap<ObjectKey, BTreeSet<PathBuf>>,
    /// Objects that several files give.
    contested: BTreeMap<ObjectKey, Vec<Problem>>,
}

#[derive(Debug, Default)]
struct File {
    objects: BTreeMap<ObjectKey, Placed>,
    problems: Vec<Problem>,
    others: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct Placed {
    /// `None`: remembered from an earlier run, place unknown.
    place: Option<Place>,
    object: Object,
}

/// What an update changed.
#[derive(Debug, Default)]
pub(super) struct Update {
    /// Objects that may be another now.
    pub(super) touched: BTreeSet<ObjectKey>,
    /// Objects that are skipped, as they are seen for the first time.
    pub(super) skipped: Vec<String>,
}

impl Catalog {
    /// Remembers an object that was in force from this file when we last ran.
    pub(super) fn remember(&mut self, path: &Path, object: Object) {
        let key = ObjectKey::from(&object);
        self.holders.entry(key.clone()).or_default().insert(path.to_owned());
        self.files.entry(path.to_owned()).or_default().objects.insert(key, Placed { place: None, object });
    }

    /// Takes in what a file says now; an error says why it cannot be read, and leaves its objects as they are.
    pub(super) fn update(&mut self, path: &Path, content: Result<Vec<Reading>, String>) -> Update {
        let before = self.files.remove(path).unwrap_or_default();
        let now = match content {
            Ok(readings) => merge(path, &before, readings),
            Err(reason) => {
                let problems = vec![Problem::of_file(path.to_owned(), reason)];
                File { objects: before.objects.clone(), problems, others: before.others.clone() }
            }
        };
        self.put(path, &before, now)
    }

    /// Forgets a file.
    pub(super) fn remove(&mut self, path: &Path) -> Update {
        let before = self.files.remove(path).unwrap_or_default();
        let update = self.put(path, &before, File::default());
        self.files.remove(path);
        update
    }

    fn put(&mut self, path: &Path, before: &File, now: File) -> Update {
        let touched: BTreeSet<ObjectKey> = before.objects.keys().chain(now.objects.keys()).cloned().collect();
        let skipped = now.others.difference(&before.others).cloned().collect();
        for key in &touched {
            let holders = self.holders.entry(key.clone()).or_default();
            if now.objects.contains_key(key) {
                holders.insert(path.to_owned());
            } else {
                holders.remove(path);
            }
            if holders.is_empty() {
                self.holders.remove(key);
            }
        }
        self.files.insert(path.to_owned(), now);
        for key in &touched {
            self.contest(key);
        }
        Update { touched, skipped }
    }

    /// Says of every place but the first that it does not count.
    fn contest(&mut self, key: &ObjectKey) {
        self.contested.remove(key);
        let mut holders = self.holders.get(key).into_iter().flatten();
        let Some(first) = holders.next() else { return };
        let place = |path: &Path| self.files.get(path)?.objects.get(key)?.place;
        let reason = twice(first, place(first));
        let problem = |path: &PathBuf| Problem {
            place: place(path),
            object: Some(key.object()),
            ..Problem::of_file(path.clone(), reason.clone())
        };
        let problems: Vec<Problem> = holders.map(problem).collect();
        if !problems.is_empty() {
            self.contested.insert(key.clone(), problems);
        }
    }

    /// The version of an object that is in force, and the file that it is from.
    pub(super) fn in_force(&self, key: &ObjectKey) -> Option<(&Path, &Object)> {
        let path = self.holders.get(key)?.first()?;
        Some((path, &self.files.get(path)?.objects.get(key)?.object))
    }

    /// Every object that is in force.
    pub(super) fn objects(&self) -> impl Iterator<Item = &Object> {
        self.holders.keys().filter_map(|key| self.in_force(key)).map(|(_, object)| object)
    }

    /// All that is wrong at present, by file.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let own = self.files.values().flat_map(|file| &file.problems);
        let mut problems: Vec<Problem> = own.chain(self.contested.values().flatten()).cloned().collect();
        problems.sort();
        problems
    }
}

/// What a file gives now, given what it gave before.
fn merge(path: &Path, before: &File, readings: Vec<Reading>) -> File {
    let mut now = File::default();
    let mut broken = BTreeSet::new();
    let mut nameless = false;
    for Reading { place, outcome } in readings {
        let mut report = |object: Option<&ObjectKey>, fault: Fault| {
            let Fault { field, value, reason } = fault;
            let (file, object) = (path.to_owned(), object.map(ObjectKey::object));
            now.problems.push(Problem { file, place: Some(place), object, field, value, reason });
        };
        match outcome {
            Outcome::Object(object) => {
                let key = ObjectKey::from(&object);
                let last_good = before.objects.get(&key).map(|placed| &placed.object);
                let moved = last_good.map(|last_good| fixed_fields_that_differ(last_good, &object)).unwrap_or_default();
                if !moved.is_empty() {
                    for fault in moved {
                        report(Some(&key), fault);
                    }
                    broken.insert((key, place));
                    continue;
                }
                match now.objects.get(&key) {
                    Some(Placed { place: first, .. }) => report(Some(&key), Fault::whole(twice(path, *first))),
                    None => drop(now.objects.insert(key, Placed { place: Some(place), object })),
                }
            }
            Outcome::Other(what) => drop(now.others.insert(what)),
            Outcome::Broken { key, faults } => {
                for fault in faults {
                    report(key.as_ref(), fault);
                }
                nameless |= key.is_none();
                broken.extend(key.map(|key| (key, place)));
            }
        }
    }
    for (key, place) in broken {
        if let Some(last_good) = before.objects.get(&key) {
            now.objects.entry(key).or_insert_with(|| Placed { place: Some(place), ..last_good.clone() });
        }
    }
    if nameless {
        for (key, last_good) in &before.objects {
            now.objects.entry(key.clone()).or_insert_with(|| last_good.clone());
        }
    }
    now
}

/// Fields that cannot be changed, as an API server would refuse it. A pool whose addresses are in use would be another one.
fn fixed_fields_that_differ(last_good: &Object, now: &Object) -> Vec<Fault> {
    let (Object::PodPool(last_good), Object::PodPool(now)) = (last_good, now) else { return Vec::new() };
    let (before, now) = (&last_good.spec, &now.spec);
    let mut faults = Vec::new();
    if before.subnet != now.subnet {
        let reason = format!("a pool stays in its subnet, {}: make another pool", before.subnet);
        faults.push(Fault::field("spec.subnet", Some(now.subnet.to_string()), reason));
    }
    if before.block_prefix_length != now.block_prefix_length {
        let text = |length: Option<i32>| length.map_or_else(|| "none".to_owned(), |length| length.to_string());
        let reason = format!("stays as it is, {}: make another pool", text(before.block_prefix_length));
        faults.push(Fault::field("spec.blockPrefixLength", Some(text(now.block_prefix_length)), reason));
    }
    faults
}

fn twice(first: &Path, place: Option<Place>) -> String {
    let place = place.map(|place| format!(" (line {}, document {})", place.line, place.document)).unwrap_or_default();
    format!("is also in {}{place}, which is the one that counts", first.display())
}
