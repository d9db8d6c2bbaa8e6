//! Bytes that wait for a socket.
//!
//! The buffer is filled only when it has run low, so what waits in it is a few messages and never a table. It knows where
//! messages begin, because a NOTIFICATION must not be put into the middle of one, and need not wait for the rest.

use bytes::{Buf, BytesMut};

#[derive(Debug, Default)]
pub(crate) struct OutputBuffer {
    bytes: BytesMut,
    /// Octets at the front that belong to a message of which some has been written already.
    partial: usize,
}

/// Below this the buffer is filled again.
const LOW: usize = 4 * 1024;
/// And up to this, by whole messages: what a socket takes at once. So a peer that does not read costs this and one message,
/// which has at most as many octets again (RFC 8654).
const HIGH: usize = 64 * 1024;

impl OutputBuffer {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether now is the time to fill it.
    pub(crate) fn has_run_low(&self) -> bool {
        self.bytes.len() < LOW
    }

    pub(crate) fn has_room(&self) -> bool {
        self.bytes.len() < HIGH
    }

    /// Appends one whole message.
    pub(crate) fn push(&mut self, message: &[u8]) {
        self.bytes.extend_from_slice(message);
    }

    /// Lets `write` append one whole message. Whether it did.
    pub(crate) fn push_with(&mut self, write: impl FnOnce(&mut BytesMut) -> bool) -> bool {
        write(&mut self.bytes)
    }

    /// The first `count` octets have been written.
    pub(crate) fn advance(&mut self, count: usize) {
        let mut count = count.min(self.bytes.len());
        while count > 0 {
            if self.partial == 0 {
                self.partial = message_length(&self.bytes);
            }
            let step = count.min(self.partial);
            self.bytes.advance(step);
            self.partial -= step;
            count -= step;
        }
        if self.bytes.is_empty() {
            // Most of the time there is nothing to say, and there may be hundreds of peers.
            self.bytes = BytesMut::new();
        }
    }

    /// Puts `last` behind everything that waits and hands the bytes out.
    pub(crate) fn append(mut self, last: &[u8]) -> Vec<u8> {
        self.bytes.extend_from_slice(last);
        self.bytes.to_vec()
    }

    /// Drops every message of which nothing was written, puts `last` there instead and hands the bytes out.
    pub(crate) fn finish(mut self, last: &[u8]) -> Vec<u8> {
        self.bytes.truncate(self.partial);
        self.bytes.extend_from_slice(last);
        self.bytes.to_vec()
    }
}

/// From the header (RFC 4271 section 4.1) of a message that we have put there ourselves.
fn message_length(bytes: &[u8]) -> usize {
    match bytes {
        [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, high, low, ..] => {
            usize::from(u16::from_be_bytes([*high, *low])).clamp(19, bytes.len().max(19))
        }
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: u16) -> Vec<u8> {
        let mut bytes = vec![0xff; usize::from(length)];
        bytes[16..18].copy_from_slice(&length.to_be_bytes());
        bytes
    }

    #[test]
    fn a_last_message_waits_for_the_one_begun_and_for_no_other() {
        let cases =
            [("nothing written", 0, 0), ("in the first", 5, 15), ("first done", 20, 0), ("in the second", 25, 25)];
        for (name, written, rest_of_message) in cases {
            let mut buffer = OutputBuffer::default();
            buffer.push(&message(20));
            buffer.push(&message(30));
            buffer.push(&message(40));
            buffer.advance(written);
            assert_eq!(buffer.finish(b"last").len(), rest_of_message + 4, "{name}");
        }
    }
}
