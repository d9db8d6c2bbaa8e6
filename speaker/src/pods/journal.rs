//! The book on disk: a line for each change, so that a speaker that is started again knows who has which address.
//!
//! A line is one JSON object. Whatever breaks off in the middle of a line (a full disk, a power cut) leaves a text that is no JSON,
//! so it is told from a whole line without a checksum. Lines are not forced to the disk: a process that dies leaves them with the
//! kernel, and a machine that dies takes its containers with it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::record::{Owner, Record};

/// What a line says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Line {
    /// An interface has these addresses from now on.
    Has(Record),
    /// An interface has none any more.
    Gone(Owner),
}

/// Lines beyond those that are needed, before the file is written anew.
const SLACK: usize = 4096;

/// The file.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// Where the next line goes; what is behind it was not written whole.
    end: u64,
    lines: usize,
}

impl Journal {
    /// Opens the journal, and reads what it holds. Lines that are none are said in the log and left out.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Vec<Record>)> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let mut records: BTreeMap<Owner, Record> = BTreeMap::new();
        if let Some(file) = existing(path)? {
            let mut reader = BufReader::new(file);
            let mut text = Vec::new();
            for number in 1usize.. {
                text.clear();
                if reader.read_until(b'\n', &mut text)? == 0 {
                    break;
                }
                match serde_json::from_slice(&text) {
                    Ok(Line::Has(record)) => drop(records.insert(record.owner.clone(), record)),
                    Ok(Line::Gone(owner)) => drop(records.remove(&owner)),
                    Err(error) => {
                        tracing::warn!(file = %path.display(), line = number, %error, "left out: no line of this journal");
                    }
                }
            }
        }
        let journal = Self::written_anew(path, records.values())?;
        Ok((journal, records.into_values().collect()))
    }

    /// Notes that an interface has its addresses. An error means that nothing was noted.
    pub(super) fn has(&mut self, record: &Record) -> io::Result<()> {
        self.append(&Line::Has(record.clone()))
    }

    /// Notes that an interface has none any more.
    pub(super) fn gone(&mut self, owner: &Owner) -> io::Result<()> {
        self.append(&Line::Gone(owner.clone()))
    }

    /// Writes the file anew when most of it is history.
    pub(super) fn tidy<'a>(&mut self, records: impl Iterator<Item = &'a Record> + Clone) -> io::Result<()> {
        if self.lines > 2 * records.clone().count() + SLACK {
            *self = Self::written_anew(&self.path.clone(), records)?;
        }
        Ok(())
    }

    fn append(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        if let Err(error) = self.file.write_all(&text) {
            // Half a line must not become the beginning of the next.
            self.file.set_len(self.end)?;
            self.file.seek(io::SeekFrom::Start(self.end))?;
            return Err(error);
        }
        self.end += text.len() as u64;
        self.lines += 1;
        Ok(())
    }

    /// A file of these records alone, in the place of the one before, which stays until this one is whole.
    fn written_anew<'a>(path: &Path, records: impl IntoIterator<Item = &'a Record>) -> io::Result<Self> {
        let unfinished = path.with_extension("new");
        let file = OpenOptions::new().create(true).write(true).truncate(true).open(&unfinished)?;
        let mut journal = Self { path: path.to_owned(), file, end: 0, lines: 0 };
        for record in records {
            journal.has(record)?;
        }
        journal.file.sync_all()?;
        fs::rename(&unfinished, path)?;
        Ok(journal)
    }
}

fn existing(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}

#[cfg(test)]
mod tests;
