//! Record and replay: every input of a [`Speaker`] with its time in a file, and the file through the engine again.
//!
//! The engine is a function of its seed and its inputs, so a file of both is all that there is to know about an incident:
//! [`Replay`] gives the same outputs byte for byte, as often as wanted, and with a debugger or another version of the engine.
//!
//! [`RecordedSpeaker`] is a [`Speaker`] that writes down what is done to it. It lends the speaker out for reading only, so an
//! input that is added to `Speaker` cannot be given past the recording. What it writes is fetched by whoever has a file
//! ([`RecordedSpeaker::take_recorded`]).
//!
//! # What is in the file
//!
//! ```text
//!  roadstead-recording\n
//!  {"format":1,"engine":"0.1.0","seed":17}\n
//!  entry entry entry ...
//! ```
//!
//! An [`Entry`] is one call: which, when (nanoseconds since the recording began) and with what, in the encoding of the crate
//! `postcard`: numbers as varints, the kind of the entry first. Kinds are added at the end and never change, so later versions
//! read earlier files. Configurations and attributes stand inside as JSON, because they are what changes with every version: a
//! field that a file does not have gets its default, one that is not known any more is left out. Of outputs there is a digest,
//! by which a replay knows whether it is still the same.
//!
//! Passwords are not in it: of one there is only that it was there. Everything else is: addresses, AS numbers, and every octet
//! that peers sent.
//!
//! A file ends with [`Entry::End`], or within an entry if the process was killed; what stands before that is good.

mod entry;
mod recorder;
mod recording;
mod replay;

pub use entry::{Change, Entry, RecordingEnd, Taken};
pub use recorder::RecordedSpeaker;
pub use recording::{ReadError, Recording};
pub use replay::{Outcome, Replay, Step};

pub(crate) use entry::hidden;

#[cfg(doc)]
use crate::Speaker;
