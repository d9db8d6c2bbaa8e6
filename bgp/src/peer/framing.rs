//! Messages out of a stream of bytes (RFC 4271 sections 4.1 and 6.1).

use bytes::{Bytes, BytesMut};
use rustbgpd_wire::constants::{EXTENDED_MAX_MESSAGE_LEN, HEADER_LEN, MARKER, MARKER_LEN, MAX_MESSAGE_LEN};

use crate::ExtendedMessages;
use crate::notification::HeaderError;

/// Takes the first whole message off the buffer. `None`: more bytes are needed.
///
/// A header is judged as soon as there are 19 octets of it, so a bad one is not waited for, and at most one message is ever
/// incomplete: 4096 octets, or 65535 where we have `offered` to take that (RFC 8654 section 4).
pub(crate) fn next_message(buffer: &mut BytesMut, offered: ExtendedMessages) -> Result<Option<Bytes>, HeaderError> {
    let Some(header) = buffer.get(..HEADER_LEN) else {
        return Ok(None);
    };
    if header[..MARKER_LEN] != MARKER {
        return Err(HeaderError::NotSynchronized);
    }
    let length = u16::from_be_bytes([header[16], header[17]]);
    let kind = header[18];
    // RFC 8654 section 4: OPEN and KEEPALIVE stay as they were.
    let longest = match (offered, kind) {
        (ExtendedMessages::Withheld, _) | (_, 1 | 4) => MAX_MESSAGE_LEN,
        (ExtendedMessages::Offered, _) => EXTENDED_MAX_MESSAGE_LEN,
    };
    if !(19..=longest).contains(&length) {
        return Err(HeaderError::Length(length));
    }
    // Section 6.1: the shortest OPEN, UPDATE and NOTIFICATION, the only KEEPALIVE; RFC 2918 section 3 for ROUTE-REFRESH,
    // of which RFC 7313 section 5 judges the long ones.
    let possible = match kind {
        1 => length >= 29,
        2 => length >= 23,
        3 => length >= 21,
        4 => length == 19,
        5 => length >= 23,
        _ => return Err(HeaderError::Type(kind)),
    };
    if !possible {
        return Err(HeaderError::Length(length));
    }
    if buffer.len() < usize::from(length) {
        return Ok(None);
    }
    Ok(Some(buffer.split_to(usize::from(length)).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(length: u16, kind: u8) -> Vec<u8> {
        let mut bytes = vec![0xff; 16];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.push(kind);
        bytes
    }

    #[test]
    fn bad_headers_are_refused_at_once_and_short_ones_waited_for() {
        let mut unsynchronized = header(19, 4);
        unsynchronized[7] = 0xfe;
        let cases = [
            ("nothing", Vec::new(), Ok(None)),
            ("18 octets", header(19, 4)[..18].to_vec(), Ok(None)),
            ("keepalive", header(19, 4), Ok(Some(19))),
            ("one zero in the marker", unsynchronized, Err(HeaderError::NotSynchronized)),
            ("length 18", header(18, 4), Err(HeaderError::Length(18))),
            ("length 0", header(0, 4), Err(HeaderError::Length(0))),
            ("length 4097", header(4097, 2), Err(HeaderError::Length(4097))),
            ("length 65535", header(65535, 2), Err(HeaderError::Length(65535))),
            ("keepalive of 20", header(20, 4), Err(HeaderError::Length(20))),
            ("open of 28", header(28, 1), Err(HeaderError::Length(28))),
            ("update of 22", header(22, 2), Err(HeaderError::Length(22))),
            ("notification of 20", header(20, 3), Err(HeaderError::Length(20))),
            ("refresh of 22", header(22, 5), Err(HeaderError::Length(22))),
            ("type 0", header(19, 0), Err(HeaderError::Type(0))),
            ("type 6", header(19, 6), Err(HeaderError::Type(6))),
            ("open not complete", header(29, 1), Ok(None)),
        ];
        for (name, bytes, expected) in cases {
            let mut buffer = BytesMut::from(bytes.as_slice());
            let message = next_message(&mut buffer, ExtendedMessages::Withheld);
            assert_eq!(message.map(|message| message.map(|m| m.len())), expected, "{name}");
        }
    }

    #[test]
    fn long_messages_are_waited_for_where_they_were_offered() {
        let cases = [
            ("open", 1, Err(HeaderError::Length(4097))),
            ("update", 2, Ok(None)),
            ("notification", 3, Ok(None)),
            ("keepalive", 4, Err(HeaderError::Length(4097))),
            ("refresh", 5, Ok(None)),
            ("type 6", 6, Err(HeaderError::Type(6))),
        ];
        for (name, kind, expected) in cases {
            let take = |length, offered| {
                let message = next_message(&mut BytesMut::from(header(length, kind).as_slice()), offered);
                message.map(|message| message.map(|m| m.len()))
            };
            assert_eq!(take(4097, ExtendedMessages::Offered), expected, "{name}");
            assert_eq!(take(4097, ExtendedMessages::Withheld), Err(HeaderError::Length(4097)), "{name}");
            assert_eq!(take(65535, ExtendedMessages::Offered).is_ok(), expected.is_ok(), "{name}");
        }
        let mut whole = BytesMut::from(header(65535, 2).as_slice());
        whole.resize(65535 + 19, 0);
        let message = next_message(&mut whole, ExtendedMessages::Offered).unwrap();
        assert_eq!((message.map(|message| message.len()), whole.len()), (Some(65535), 19));
    }

    #[test]
    fn any_split_of_the_stream_gives_the_same_messages() {
        let stream: Vec<u8> = [header(19, 4), [header(23, 2), vec![0; 4]].concat(), header(19, 4)].concat();
        for size in 1..=stream.len() {
            let mut buffer = BytesMut::new();
            let mut lengths = Vec::new();
            for piece in stream.chunks(size) {
                buffer.extend_from_slice(piece);
                while let Some(message) = next_message(&mut buffer, ExtendedMessages::Offered).unwrap() {
                    lengths.push(message.len());
                }
            }
            assert_eq!(lengths, [19, 23, 19], "pieces of {size}");
        }
    }
}
