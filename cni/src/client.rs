//! One question to the speaker.

use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::answer::CallError;
use crate::socket::Refusal;

/// How long an answer may take. A runtime gives up after two minutes; an address that needs a write to the API server may wait for
/// one of its slow moments.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest answer.
const LONGEST: usize = 1 << 20;

/// Asks the speaker at `socket`.
pub fn ask<Answer: DeserializeOwned>(
    socket: &Path,
    path: &str,
    question: &impl Serialize,
) -> Result<Answer, CallError> {
    let unreachable = |reason: String| CallError::Speaker { socket: socket.display().to_string(), reason };
    let (status, body) = exchange(socket, path, question).map_err(|error| unreachable(error.to_string()))?;
    if status == 200 {
        return serde_json::from_slice(&body).map_err(|error| unreachable(format!("its answer is none: {error}")));
    }
    let refusal: Refusal = serde_json::from_slice(&body)
        .map_err(|_| unreachable(format!("HTTP {status}: {}", String::from_utf8_lossy(&body).trim())))?;
    Err(CallError::Refused(refusal))
}

fn exchange(socket: &Path, path: &str, question: &impl Serialize) -> io::Result<(u16, Vec<u8>)> {
    trust(socket)?;
    let body = serde_json::to_vec(question)?;
    let mut stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // HTTP/1.0: the end of the answer is the end of the connection.
    let head = format!(
        "POST {path} HTTP/1.0\r\nHost: speaker\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), &body].concat())?;
    let answer = read_answer(stream)?;
    split(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is no HTTP, or cut off"))
}

/// All that is answered. The time is for all of it: an answer that trickles is none.
fn read_answer(mut stream: UnixStream) -> io::Result<Vec<u8>> {
    let too_late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", PATIENCE.as_secs()));
    let deadline = Instant::now() + PATIENCE;
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    while answer.len() < LONGEST {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(too_late());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(too_late()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

/// Who may write to the directory of the socket may hand out addresses: only root, or whoever runs the plugin.
fn trust(socket: &Path) -> io::Result<()> {
    let metadata = socket.symlink_metadata()?;
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no socket"));
    }
    // The plugin's own files belong to the user that it runs as.
    let own = Path::new("/proc/self").metadata()?.uid();
    if metadata.uid() != 0 && metadata.uid() != own {
        let reason =
            format!("it belongs to user {}, who is neither root nor the user that asks ({own})", metadata.uid());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    }
    Ok(())
}

/// Status and body.
fn split(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, answer[end + 4..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_split_into_status_and_body() {
        assert_eq!(split(b"HTTP/1.0 200 OK\r\na: b\r\n\r\n{}"), Some((200, b"{}".to_vec())));
        assert_eq!(split(b"HTTP/1.0 200 OK\r\n"), None);
        assert_eq!(split(b"\r\n\r\n"), None);
        assert_eq!(split(b"HTTP/1.0 many OK\r\n\r\n"), None);
    }
}
