//! The file that a recording goes to, written on a thread of its own.
//!
//! The engine never waits for a disk. One chunk at a time is on its way to the file; what is recorded meanwhile is the next one. If
//! that grows beyond a bound, the recording ends and says so: with a hole in it, it could not be replayed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tracing::{error, info, warn};

use super::RecordTo;
use crate::record::{RecordedSpeaker, RecordingEnd};

#[derive(Debug)]
pub(super) struct RecordingFile {
    chunks: mpsc::Sender<Vec<u8>>,
    writer: JoinHandle<()>,
    path: PathBuf,
    limit: u64,
}

/// So much may wait for the disk: a second of what a table of a million prefixes arrives with.
const MOST_WAITING: usize = 16 * 1024 * 1024;

impl RecordingFile {
    pub(super) fn create(RecordTo { path, limit }: RecordTo) -> io::Result<Self> {
        let file = create(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("cannot record to {}: {error}", path.display())))?;
        let (chunks, received) = mpsc::channel(1);
        let named = path.clone();
        let writer =
            std::thread::Builder::new().name("recording".to_owned()).spawn(move || write(file, received, &named))?;
        info!(path = %path.display(), limit, "every input of the BGP engine is recorded");
        Ok(Self { chunks, writer, path, limit })
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Hands over what was recorded, or leaves it for the next time.
    pub(super) fn save(&self, speaker: &mut RecordedSpeaker) {
        if speaker.recorded_octets() == 0 {
            return;
        }
        match self.chunks.try_reserve() {
            Ok(permit) => {
                permit.send(speaker.take_recorded());
                // Nothing is recorded after that, so it is said once.
                if let Some(why) = speaker.recording_end() {
                    warn!(path = %self.path.display(), "the recording has ended: {why}");
                }
            }
            Err(TrySendError::Full(())) => {
                if speaker.recorded_octets() > MOST_WAITING {
                    speaker.end_recording(RecordingEnd::FellBehind);
                }
            }
            // The writer has said why.
            Err(TrySendError::Closed(())) => {
                speaker.end_recording(RecordingEnd::FellBehind);
                drop(speaker.take_recorded());
            }
        }
    }

    /// Waits until everything stands in the file.
    pub(super) async fn finish(self, rest: Vec<u8>) {
        // A writer that has given up has said why.
        let _ = self.chunks.send(rest).await;
        drop(self.chunks);
        let _ = tokio::task::spawn_blocking(move || self.writer.join()).await;
    }
}

fn create(path: &Path) -> io::Result<File> {
    if path.try_exists()? {
        let mut before = path.as_os_str().to_owned();
        before.push(".1");
        std::fs::rename(path, before)?;
    }
    // What peers say is nobody else's business.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn write(mut file: File, mut chunks: mpsc::Receiver<Vec<u8>>, path: &Path) {
    while let Some(chunk) = chunks.blocking_recv() {
        if let Err(error) = file.write_all(&chunk) {
            error!(path = %path.display(), %error, "the recording has ended: it cannot be written");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::driver::{Driver, DriverConfig};
    use crate::record::{Entry, ReadError, Recording, Replay, Step};
    use crate::{Asn, PeerAsn, PeerConfig, Shutdown};

    /// A directory of this test alone, gone with it.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("roadstead-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            // What stays behind lies in the temporary directory.
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// Runs an engine with a peer that nobody plays, and reads what was recorded.
    async fn run(path: &Path, limit: u64) -> Vec<Step> {
        let record = Some(RecordTo { path: path.to_owned(), limit });
        let (handle, _events) = Driver::start(DriverConfig { listen: Vec::new(), seed: 1, record }).unwrap();
        let remote = "127.0.0.77:9".parse().unwrap();
        let mut config = PeerConfig::new(Asn(64500), PeerAsn::External, "10.0.0.1".parse().unwrap(), remote);
        config.connect_retry = Duration::from_millis(100);
        handle.set_peer("nobody".into(), config).await.unwrap();
        handle.initial_set_complete("nobody".into()).await.unwrap();
        handle.shutdown(Shutdown::Leave(String::new())).await;
        let file = std::fs::read(path).unwrap();
        let recording = Recording::read(&file).unwrap();
        let steps: Result<Vec<Step>, ReadError> = Replay::new(&recording, std::time::Instant::now()).collect();
        steps.unwrap()
    }

    #[tokio::test]
    async fn the_file_is_complete_when_the_engine_has_ended_and_the_earlier_one_is_kept() {
        let directory = Directory::new("recording");
        let path = directory.0.join("engine.recording");
        std::fs::write(&path, "earlier").unwrap();
        let steps = run(&path, 1 << 20).await;
        assert!(steps.iter().all(|step| step.agrees), "{steps:#?}");
        assert_eq!(steps.last().map(|step| &step.entry), Some(&Entry::End(RecordingEnd::Complete)));
        assert_eq!(std::fs::read_to_string(directory.0.join("engine.recording.1")).unwrap(), "earlier");
    }

    #[tokio::test]
    async fn at_its_limit_the_file_ends_and_the_engine_goes_on() {
        let directory = Directory::new("limited");
        let path = directory.0.join("engine.recording");
        let steps = run(&path, 100).await;
        assert_eq!(steps.last().map(|step| &step.entry), Some(&Entry::End(RecordingEnd::LimitReached)));
        assert!(std::fs::metadata(&path).unwrap().len() <= 102);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let path = PathBuf::from("/nonexistent/engine.recording");
        let error = RecordingFile::create(RecordTo { path, limit: 1 }).expect_err("there is no such directory");
        assert!(error.to_string().contains("cannot record to /nonexistent/engine.recording"), "{error}");
    }
}
