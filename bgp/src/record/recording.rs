//! A recording as a file has it.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::entry::Entry;

/// The first line of every recording.
const MAGIC: &[u8] = b"roadstead-recording\n";
/// Of the entries behind the header. A change that earlier versions cannot read, or that changes what is read, is another.
const FORMAT: u32 = 1;

/// The second line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    format: u32,
    /// Version of the engine that was recorded.
    engine: String,
    seed: u64,
}

/// A recording that can be replayed.
#[derive(Debug, Clone)]
pub struct Recording<'a> {
    header: Header,
    entries: &'a [u8],
}

/// Why a file is no recording, or how it ends.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReadError {
    #[error("not a recording: it does not begin with \"roadstead-recording\"")]
    NotARecording,
    #[error("the second line is no header of a recording: {0}")]
    Header(String),
    #[error("a recording in format {given}; this version reads format {FORMAT}")]
    Format { given: u32 },
    /// The recording process was killed, or is still running.
    #[error("the recording breaks off after entry {entries}")]
    BreaksOff { entries: u64 },
    #[error("entry {entry} cannot be read: {reason}")]
    Entry { entry: u64, reason: String },
}

pub(super) fn header(seed: u64) -> Vec<u8> {
    let header = Header { format: FORMAT, engine: env!("CARGO_PKG_VERSION").to_owned(), seed };
    let text = serde_json::to_string(&header);
    debug_assert!(text.is_ok(), "a struct of numbers and a text");
    [MAGIC, text.unwrap_or_default().as_bytes(), b"\n"].concat()
}

impl<'a> Recording<'a> {
    pub fn read(file: &'a [u8]) -> Result<Self, ReadError> {
        let rest = file.strip_prefix(MAGIC).ok_or(ReadError::NotARecording)?;
        let end = rest.iter().position(|octet| *octet == b'\n').unwrap_or(rest.len());
        let header: Header =
            serde_json::from_slice(&rest[..end]).map_err(|error| ReadError::Header(error.to_string()))?;
        if header.format != FORMAT {
            return Err(ReadError::Format { given: header.format });
        }
        Ok(Self { header, entries: rest.get(end + 1..).unwrap_or_default() })
    }

    /// Version of the engine that was recorded.
    pub fn engine(&self) -> &str {
        &self.header.engine
    }

    pub fn seed(&self) -> u64 {
        self.header.seed
    }

    pub(super) fn entries(&self) -> Entries<'a> {
        Entries { rest: self.entries, read: 0 }
    }
}

/// Entry by entry; nothing behind the first that cannot be read.
#[derive(Debug)]
pub(super) struct Entries<'a> {
    rest: &'a [u8],
    read: u64,
}

impl Entries<'_> {
    /// Reads nothing more.
    pub(super) fn stop(&mut self) {
        self.rest = &[];
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match postcard::take_from_bytes(self.rest) {
            Ok((entry, rest)) => {
                self.rest = rest;
                self.read += 1;
                Some(Ok(entry))
            }
            Err(error) => {
                self.stop();
                Some(Err(match error {
                    postcard::Error::DeserializeUnexpectedEnd => ReadError::BreaksOff { entries: self.read },
                    error => ReadError::Entry { entry: self.read + 1, reason: error.to_string() },
                }))
            }
        }
    }
}
