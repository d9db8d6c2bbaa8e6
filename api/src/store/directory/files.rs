//! The files of a directory, and when one has changed.
//!
//! Files are looked at again and again, and not watched by inotify: that says nothing on network file systems, loses events when
//! its queue overflows, watches what a symbolic link pointed to when a ConfigMap volume swaps it, and after each of its events the
//! file would have to be looked at all the same. A look costs one `stat` per file.
//!
//! A file counts as changed when its fingerprint is another than the one that was read, and has been the same in two looks: an
//! editor that truncates a file and writes it again is seen half way otherwise. For a file that is gone or empty, which is what
//! the moment between truncating or moving away and writing looks like, it takes longer, for here being hasty withdraws routes.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Looks in which a changed file must be the same before it is read.
const SETTLED: u32 = 2;
/// Looks in which a file must be gone or empty before that is believed.
const GONE: u32 = 5;
/// A larger file is refused: nobody writes this much by hand, and memory is bounded.
const LONGEST_FILE: u64 = 64 << 20;

/// What `stat` says of a file: a change of its content changes one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&Metadata> for Fingerprint {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It has this text now.
    Text(String),
    /// It is there, but cannot be read.
    Unreadable(String),
    /// It is gone.
    Gone,
}

/// The files below a directory that are manifests.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    /// Our own state, which may lie below.
    except: Option<PathBuf>,
    seen: BTreeMap<PathBuf, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// As it was when it was read; `None`: never, or it was gone.
    read: Option<Fingerprint>,
    /// As it was in the last look, and in how many looks it was so.
    last: Option<Fingerprint>,
    looks: u32,
}

impl Files {
    /// The files of `root` and of its direct subdirectories, but not of `except`.
    pub(super) fn new(root: PathBuf, except: Option<&Path>) -> Self {
        Self { root, except: except.and_then(|path| path.canonicalize().ok()), seen: BTreeMap::new() }
    }

    /// Expects a file that was there in an earlier run, so that its absence is told.
    pub(super) fn expect(&mut self, path: &Path) {
        self.seen.entry(path.to_owned()).or_default().looks = GONE;
    }

    /// The first look believes what it sees.
    pub(super) fn look_first(&mut self) -> io::Result<Vec<(PathBuf, Change)>> {
        self.look_with(1, 1)
    }

    /// What changed since the last look. An error says that the directory cannot be read, and nothing of its files.
    pub(super) fn look(&mut self) -> io::Result<Vec<(PathBuf, Change)>> {
        self.look_with(SETTLED, GONE)
    }

    fn look_with(&mut self, settled: u32, gone: u32) -> io::Result<Vec<(PathBuf, Change)>> {
        let present = self.list()?;
        let mut paths: Vec<PathBuf> = self.seen.keys().chain(present.keys()).cloned().collect();
        paths.sort();
        paths.dedup();
        let mut changes = Vec::new();
        for path in paths {
            let now = present.get(&path).copied();
            let seen = self.seen.entry(path.clone()).or_default();
            seen.looks = if seen.last == now { seen.looks.saturating_add(1) } else { 1 };
            seen.last = now;
            let (is_gone, was_there) = (now.is_none_or(|now| now.size == 0), seen.read.is_some());
            let needed = if is_gone && was_there { gone } else { settled };
            let Some(print) = now else {
                if seen.looks >= needed {
                    self.seen.remove(&path);
                    changes.push((path, Change::Gone));
                }
                continue;
            };
            if seen.read == now || seen.looks < needed {
                continue;
            }
            let change = match read(&path, print) {
                Ok(Some(text)) => Change::Text(text),
                // It changed under our hands: the next look sees how.
                Ok(None) => continue,
                Err(error) => Change::Unreadable(format!("cannot be read: {error}")),
            };
            seen.read = Some(print);
            changes.push((path, change));
        }
        Ok(changes)
    }

    /// Every manifest file with its fingerprint.
    fn list(&self) -> io::Result<BTreeMap<PathBuf, Fingerprint>> {
        let mut files = BTreeMap::new();
        if self.root.is_file() {
            files.insert(self.root.clone(), Fingerprint::from(&fs::metadata(&self.root)?));
            return Ok(files);
        }
        let mut below = Vec::new();
        self.list_into(&self.root, &mut files, Some(&mut below))?;
        for directory in below {
            match self.list_into(&directory, &mut files, None) {
                // It went away between the two listings.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                outcome => outcome?,
            }
        }
        Ok(files)
    }

    fn list_into(
        &self,
        directory: &Path,
        files: &mut BTreeMap<PathBuf, Fingerprint>,
        mut below: Option<&mut Vec<PathBuf>>,
    ) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            // Hidden: what editors and ConfigMap volumes (`..data`) keep beside the files.
            let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
            // Of a symbolic link, what it points to; what points nowhere is not there.
            let Some(metadata) = fs::metadata(&path).ok().filter(|_| !hidden) else { continue };
            if metadata.is_dir() {
                let ours = self.except.is_some() && path.canonicalize().ok() == self.except;
                below.as_mut().filter(|_| !ours).into_iter().for_each(|below| below.push(path.clone()));
            } else if metadata.is_file() && is_manifest(&path) {
                files.insert(path, Fingerprint::from(&metadata));
            }
        }
        Ok(())
    }
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|ours| extension == *ours))
}

/// The text of a file, or nothing if it is another than the one that was looked at.
fn read(path: &Path, looked_at: Fingerprint) -> io::Result<Option<String>> {
    let file = fs::File::open(path)?;
    if looked_at.size > LONGEST_FILE {
        let limit = format!("larger than {} MiB", LONGEST_FILE >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, limit));
    }
    let mut bytes = Vec::new();
    (&file).take(LONGEST_FILE + 1).read_to_end(&mut bytes)?;
    if Fingerprint::from(&file.metadata()?) != looked_at || bytes.len() as u64 != looked_at.size {
        return Ok(None);
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let message = format!("not UTF-8 text at byte {}", error.utf8_error().valid_up_to());
        io::Error::new(io::ErrorKind::InvalidData, message)
    })?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::directory::scratch::Scratch;

    /// What a look told, as `a.yaml=text` and `a.yaml gone`.
    fn look(files: &mut Files) -> Vec<String> {
        let told = |(path, change): (PathBuf, Change)| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            match change {
                Change::Text(text) => format!("{name}={text}"),
                Change::Unreadable(reason) => format!("{name} {reason}"),
                Change::Gone => format!("{name} gone"),
            }
        };
        files.look().unwrap().into_iter().map(told).collect()
    }

    fn looks(files: &mut Files, count: u32) -> Vec<String> {
        (0..count).flat_map(|_| look(files)).collect()
    }

    fn one_file() -> (Scratch, Files) {
        let scratch = Scratch::new();
        scratch.put("a.yaml", "1");
        let mut files = Files::new(scratch.manifests(), None);
        assert_eq!(files.look_first().unwrap().len(), 1);
        (scratch, files)
    }

    #[test]
    fn a_change_is_told_once_it_has_settled() {
        let (scratch, mut files) = one_file();
        assert_eq!(looks(&mut files, 10), [""; 0], "nothing happened");
        scratch.put("a.yaml", "22");
        assert_eq!(look(&mut files), [""; 0], "may still be written");
        scratch.put("a.yaml", "333");
        assert_eq!(look(&mut files), [""; 0], "was still being written");
        assert_eq!(looks(&mut files, 10), ["a.yaml=333"]);
    }

    #[test]
    fn a_file_written_in_two_steps_is_never_seen_empty() {
        let (scratch, mut files) = one_file();
        scratch.put("a.yaml", "");
        assert_eq!(looks(&mut files, GONE - 1), [""; 0]);
        scratch.put("a.yaml", "22");
        assert_eq!(looks(&mut files, 10), ["a.yaml=22"], "truncated and written");
        scratch.remove("a.yaml");
        assert_eq!(looks(&mut files, GONE - 1), [""; 0]);
        scratch.put("a.yaml", "333");
        assert_eq!(looks(&mut files, 10), ["a.yaml=333"], "moved away and written");
    }

    #[test]
    fn a_file_that_stays_empty_or_away_is_believed() {
        let (scratch, mut files) = one_file();
        scratch.put("a.yaml", "");
        assert_eq!(looks(&mut files, GONE), ["a.yaml="]);
        scratch.put("a.yaml", "1");
        assert_eq!(looks(&mut files, SETTLED), ["a.yaml=1"]);
        scratch.remove("a.yaml");
        assert_eq!(looks(&mut files, GONE), ["a.yaml gone"]);
        assert_eq!(looks(&mut files, 10), [""; 0]);
    }

    #[test]
    fn the_swap_of_a_configmap_volume_is_a_change() {
        let scratch = Scratch::new();
        let root = scratch.manifests();
        for (version, text) in [("..1", "1"), ("..2", "2")] {
            scratch.put(&format!("{version}/a.yaml"), text);
        }
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, root.join(name)).unwrap();
        link("..1", "..data");
        link("..data/a.yaml", "a.yaml");
        let mut files = Files::new(root.clone(), None);
        assert_eq!(files.look_first().unwrap(), [(root.join("a.yaml"), Change::Text("1".to_owned()))]);
        link("..2", "..next");
        fs::rename(root.join("..next"), root.join("..data")).unwrap();
        assert_eq!(looks(&mut files, 10), ["a.yaml=2"]);
    }

    #[test]
    fn only_manifests_are_read() {
        let scratch = Scratch::new();
        for name in [
            "a.yaml",
            "b.yml",
            "c.json",
            "sub/d.yaml",
            "sub/sub/e.yaml",
            ".f.yaml",
            ".sub/g.yaml",
            "h.yaml~",
            "i.txt",
            "j.d/k.yaml",
        ] {
            scratch.put(name, "x");
        }
        std::os::unix::fs::symlink("nowhere", scratch.manifests().join("l.yaml")).unwrap();
        let mut files = Files::new(scratch.manifests(), Some(&scratch.manifests().join("j.d")));
        let found: Vec<_> = files.look_first().unwrap().into_iter().map(|(path, _)| path).collect();
        assert_eq!(found, ["a.yaml", "b.yml", "c.json", "sub/d.yaml"].map(|name| scratch.manifests().join(name)));
    }
}
