//! The other end, for the command line: one request, one answer.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

/// An engine that is alone on its core answers in milliseconds; one that loads a million routes in a second or two.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or the caller may not.
    #[error("no speaker answers on {socket}: {source}; is it running here, and is --socket the same?")]
    Connect {
        /// Where.
        socket: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It went away meanwhile.
    #[error("the speaker's answer broke off: {0}")]
    Read(#[from] io::Error),
    /// It does not like the question.
    #[error("{0}")]
    Refused(String),
    /// It is another version, or something else altogether.
    #[error("the answer is not one of a speaker: {0}")]
    Answer(String),
}

/// Asks for a path with its query.
///
/// # Errors
/// [`ClientError`]; nothing is tried twice.
pub fn get<View: DeserializeOwned>(socket: &Path, path: &str) -> Result<View, ClientError> {
    let connect = |source| ClientError::Connect { socket: socket.to_owned(), source };
    let mut stream = UnixStream::connect(socket).map_err(connect)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // HTTP/1.0: the answer ends with the connection and comes in one piece.
    write!(stream, "GET {path} HTTP/1.0\r\nhost: speaker\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let (status, body) = split(&answer).ok_or_else(|| ClientError::Answer("no HTTP".to_owned()))?;
    if status != "200" {
        return Err(ClientError::Refused(String::from_utf8_lossy(body).trim_end().to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| ClientError::Answer(error.to_string()))
}

/// Status code and body.
fn split(answer: &[u8]) -> Option<(&str, &[u8])> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    Some((head.split_whitespace().nth(1)?, &answer[end + 4..]))
}

/// A value as it may stand in a query.
fn escaped(value: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._:/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text += &format!("%{byte:02X}");
        }
    }
    text
}

/// A path with a query of those values that are there.
pub fn path_with(path: &str, query: &[(&str, Option<&str>)]) -> String {
    let given = query.iter().filter_map(|(name, value)| Some(format!("{name}={}", escaped((*value)?))));
    let given: Vec<String> = given.collect();
    if given.is_empty() { path.to_owned() } else { format!("{path}?{}", given.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_holds_what_was_given_and_nothing_else() {
        assert_eq!(path_with("/v1/routes", &[("peer", None)]), "/v1/routes");
        let query = [("peer", Some("clients/10.0.0.1")), ("prefix", Some("2001:db8::/32")), ("after", Some("#7 &"))];
        let expected = "/v1/routes?peer=clients/10.0.0.1&prefix=2001:db8::/32&after=%237%20%26";
        assert_eq!(path_with("/v1/routes", &query), expected);
    }

    #[test]
    fn an_answer_is_split_into_code_and_body() {
        assert_eq!(split(b"HTTP/1.0 200 OK\r\na: b\r\n\r\n{}"), Some(("200", &b"{}"[..])));
        assert_eq!(split(b"HTTP/1.0 200 OK\r\n"), None);
        assert_eq!(split(b"\r\n\r\n"), None);
    }
}
