//! NOTIFICATION messages: which one goes with which error, and what a received one means in words.

use std::fmt;

use bytes::{Bytes, BytesMut};
use rustbgpd_wire::notification::{
    cease_subcode, decode_shutdown_communication, description, header_subcode, open_subcode,
};
use rustbgpd_wire::{NotificationCode, NotificationMessage};

use crate::error::{OpenError, SessionError};
use crate::{Asn, Family};

/// A NOTIFICATION, sent or received. Unknown codes keep their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    pub code: u8,
    pub subcode: u8,
    pub data: Bytes,
}

impl Notification {
    pub(crate) fn new(code: NotificationCode, subcode: u8, data: impl Into<Bytes>) -> Self {
        Self { code: code.as_u8(), subcode, data: data.into() }
    }

    /// Cease (RFC 4486) without further data.
    pub(crate) fn cease(subcode: u8) -> Self {
        Self::new(NotificationCode::Cease, subcode, Bytes::new())
    }

    /// RFC 8538 section 3.1: this, and no graceful restart. The reason is inside.
    pub(crate) fn as_hard_reset(&self) -> Self {
        let mut data = vec![self.code, self.subcode];
        data.extend_from_slice(&self.data);
        Self::new(NotificationCode::Cease, cease_subcode::HARD_RESET, data)
    }

    /// A connection that cannot be taken.
    pub(crate) fn connection_rejected() -> Self {
        Self::cease(cease_subcode::CONNECTION_REJECTED)
    }

    /// The loser of a collision, or a second connection beside an established one (RFC 4271 section 6.8).
    pub(crate) fn collision() -> Self {
        Self::cease(cease_subcode::CONNECTION_COLLISION_RESOLUTION)
    }

    pub(crate) fn is_collision(&self) -> bool {
        self.code == NotificationCode::Cease.as_u8() && self.subcode == cease_subcode::CONNECTION_COLLISION_RESOLUTION
    }

    /// What the peer is told about `error`. `None` where there is nobody to tell, or where the peer told us.
    pub(crate) fn for_error(error: &SessionError) -> Option<Self> {
        use NotificationCode as Code;
        Some(match error {
            SessionError::DialFailed { .. }
            | SessionError::DialTimeout { .. }
            | SessionError::ConnectionLost { .. }
            | SessionError::ClosedByPeer { .. }
            | SessionError::NotificationReceived { .. }
            // RFC 4724 section 4: a NOTIFICATION would end what is to be kept.
            | SessionError::Restarting
            | SessionError::PeerRestarted => return None,
            SessionError::Open(error) => open_notification(error),
            SessionError::Header { notification, .. }
            | SessionError::Update { notification, .. }
            | SessionError::RouteRefresh { notification, .. } => notification.clone(),
            // RFC 6608 section 4: the subcode says in which state the message was unexpected, the data its type.
            SessionError::UnexpectedMessage { message, state } => {
                let subcode = match *state {
                    "OpenSent" => 1,
                    "OpenConfirm" => 2,
                    "Established" => 3,
                    _ => 0,
                };
                let kind = match *message {
                    "OPEN" => 1,
                    "UPDATE" => 2,
                    "NOTIFICATION" => 3,
                    "KEEPALIVE" => 4,
                    _ => 5,
                };
                Self::new(Code::FsmError, subcode, vec![kind])
            }
            SessionError::HoldTimerExpired { .. } => Self::new(Code::HoldTimerExpired, 0, Bytes::new()),
            SessionError::SendHoldTimerExpired { .. } => Self::new(Code::SendHoldTimerExpired, 0, Bytes::new()),
            // RFC 4486 section 4: AFI, SAFI and the bound.
            SessionError::MaxPrefixes { limit, family, .. } => {
                let mut data = Vec::with_capacity(7);
                data.extend_from_slice(&(family.afi() as u16).to_be_bytes());
                data.push(1);
                data.extend_from_slice(&limit.to_be_bytes());
                Self::new(Code::Cease, cease_subcode::MAX_PREFIXES, data)
            }
            SessionError::BfdDown { .. } => Self::cease(cease_subcode::BFD_DOWN),
            SessionError::Collision => Self::collision(),
            SessionError::ConfigurationChanged => Self::cease(cease_subcode::OTHER_CONFIGURATION_CHANGE),
            SessionError::Deconfigured => Self::cease(cease_subcode::PEER_DECONFIGURED),
            SessionError::Shutdown { text } => {
                Self::new(Code::Cease, cease_subcode::ADMINISTRATIVE_SHUTDOWN, shutdown_communication(text))
            }
        })
    }

    /// The whole message, no longer than the peer takes.
    pub(crate) fn encode(&self, max_message: u16) -> BytesMut {
        let mut message = BytesMut::with_capacity(21 + self.data.len());
        // The data that we send is a quotation of at most one received message; if a message does not bear it, the peer
        // learns the code without it.
        let full = NotificationMessage::new(NotificationCode::from_u8(self.code), self.subcode, self.data.clone());
        if full.encode_with_limit(&mut message, max_message).is_err() {
            message.clear();
            let bare = NotificationMessage::new(full.code, self.subcode, Bytes::new());
            debug_assert!(bare.encode(&mut message).is_ok(), "21 octets fit into any message");
        }
        message
    }

    /// A received one for the operator: what the peer objects to, and where to look.
    pub(crate) fn received_in_words(&self, local_asn: Asn) -> String {
        let codes = format!("({}/{})", self.code, self.subcode);
        match (self.code, self.subcode) {
            (2, open_subcode::BAD_PEER_AS) => format!(
                "peer refused our OPEN: bad peer AS {codes}: we are AS {local_asn}; \
                 check localASN here and the ASN configured there"
            ),
            (2, open_subcode::BAD_BGP_IDENTIFIER) => {
                format!("peer refused our OPEN: bad BGP identifier {codes}; does it have the same router ID?")
            }
            (2, open_subcode::UNACCEPTABLE_HOLD_TIME) => {
                format!("peer refused our OPEN: unacceptable hold time {codes}; check holdSeconds")
            }
            (2, open_subcode::ROLE_MISMATCH) => {
                format!(
                    "peer refused our OPEN: role mismatch {codes}; check role here and there (RFC 9234 section 4.2)"
                )
            }
            (2, _) => format!("peer refused our OPEN: {self}"),
            (6, cease_subcode::CONNECTION_REJECTED) => {
                format!("peer rejected the connection {codes}; is a session with our address configured there?")
            }
            _ => format!("peer closed the session: {self}"),
        }
    }
}

impl fmt::Display for Notification {
    /// Name and numbers, and the shutdown communication (RFC 9003) where there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = NotificationCode::from_u8(self.code);
        write!(f, "{} ({}/{})", description(code, self.subcode), self.code, self.subcode)?;
        if code == NotificationCode::Cease
            && self.subcode == cease_subcode::HARD_RESET
            && let [code, subcode, ..] = *self.data
            // One level only: what else a peer wraps into it is not read.
            && (code, subcode) != (self.code, self.subcode)
        {
            return write!(f, ", {}", Self { code, subcode, data: self.data.slice(2..) });
        }
        let with_text =
            matches!(self.subcode, cease_subcode::ADMINISTRATIVE_SHUTDOWN | cease_subcode::ADMINISTRATIVE_RESET);
        if code == NotificationCode::Cease
            && with_text
            && let Some(text) = decode_shutdown_communication(&self.data)
            && !text.is_empty()
        {
            // RFC 9003 section 5: the text is the peer's, so nothing in it may pass for ours; `Debug` escapes it.
            write!(f, ": {text:?}")?;
        }
        Ok(())
    }
}

impl From<NotificationMessage> for Notification {
    fn from(message: NotificationMessage) -> Self {
        Self { code: message.code.as_u8(), subcode: message.subcode, data: message.data }
    }
}

/// RFC 9003 section 2: the text behind its length, which is one octet. What is too long for that ends with the last character that
/// fits; without a text there is nothing.
fn shutdown_communication(text: &str) -> Bytes {
    let text = &text[..text.floor_char_boundary(usize::from(u8::MAX))];
    match u8::try_from(text.len()) {
        Ok(length) if length > 0 => [&[length], text.as_bytes()].concat().into(),
        _ => Bytes::new(),
    }
}

/// RFC 4271 section 6.2, RFC 5492 section 5.
fn open_notification(error: &OpenError) -> Notification {
    let (subcode, data) = match error {
        OpenError::Version { .. } => (open_subcode::UNSUPPORTED_VERSION, vec![0, 4]),
        OpenError::PeerAsn { .. }
        | OpenError::AsnNotAllowed { .. }
        | OpenError::ReservedAsn { .. }
        | OpenError::NotInternal { .. }
        | OpenError::NotExternal { .. } => (open_subcode::BAD_PEER_AS, Vec::new()),
        OpenError::ZeroRouterId | OpenError::SameRouterId { .. } => (open_subcode::BAD_BGP_IDENTIFIER, Vec::new()),
        OpenError::HoldTime { .. } => (open_subcode::UNACCEPTABLE_HOLD_TIME, Vec::new()),
        OpenError::OptionalParameter { .. } => (open_subcode::UNSUPPORTED_OPTIONAL_PARAMETER, Vec::new()),
        OpenError::NoCommonFamily { ours, .. } => {
            // The data lists the capabilities that we cannot do without, as they stand in an OPEN.
            let capability = |family: &Family| {
                let [high, low] = (family.afi() as u16).to_be_bytes();
                [1, 4, high, low, 0, 1]
            };
            (open_subcode::UNSUPPORTED_CAPABILITY, ours.0.iter().flat_map(capability).collect())
        }
        OpenError::RoleMismatch { .. } | OpenError::NoRole { .. } => (open_subcode::ROLE_MISMATCH, Vec::new()),
        OpenError::Malformed { .. } => (0, Vec::new()),
    };
    Notification::new(NotificationCode::OpenMessage, subcode, data)
}

/// RFC 4271 section 6.1.
pub(crate) fn header_notification(error: HeaderError) -> Notification {
    let (subcode, data) = match error {
        HeaderError::NotSynchronized => (header_subcode::CONNECTION_NOT_SYNCHRONIZED, Vec::new()),
        HeaderError::Length(length) => (header_subcode::BAD_MESSAGE_LENGTH, length.to_be_bytes().to_vec()),
        HeaderError::Type(kind) => (header_subcode::BAD_MESSAGE_TYPE, vec![kind]),
    };
    Notification::new(NotificationCode::MessageHeader, subcode, data)
}

/// What can be wrong with a message header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderError {
    NotSynchronized,
    Length(u16),
    Type(u8),
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSynchronized => f.write_str("the marker is not all ones (1/1)"),
            Self::Length(length) => write!(f, "length {length} is not possible for this type (1/2)"),
            Self::Type(kind) => write!(f, "there is no message type {kind} (1/3)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9003 section 2 has raised the 128 octets of RFC 8203.
    #[test]
    fn a_shutdown_says_at_most_255_octets_of_whole_characters() {
        let (a, umlaut, ship) = ("a", "\u{fc}", "\u{1f6a2}");
        // The text; how many of its octets are sent.
        let cases = [
            (String::new(), 0),
            (a.to_owned(), 1),
            (a.repeat(128), 128),
            (a.repeat(129), 129),
            (a.repeat(255), 255),
            (a.repeat(256), 255),
            (umlaut.repeat(200), 254),
            (a.to_owned() + &umlaut.repeat(200), 255),
            (ship.repeat(70), 252),
            (a.repeat(3) + &ship.repeat(70), 255),
        ];
        for (text, length) in cases {
            let error = SessionError::Shutdown { text: text.clone() };
            let notification = Notification::for_error(&error).unwrap();
            assert_eq!((notification.code, notification.subcode), (6, cease_subcode::ADMINISTRATIVE_SHUTDOWN));
            if length == 0 {
                assert_eq!(notification.data, Bytes::new(), "{text}");
                continue;
            }
            assert_eq!(usize::from(notification.data[0]), length, "{text}");
            assert_eq!(notification.data[1..], text.as_bytes()[..length], "{text}");
            assert!(notification.to_string().ends_with(&format!(": {:?}", &text[..length])), "{notification}");
            assert_eq!(notification.encode(4096).len(), 21 + 1 + length, "{text}");
        }
    }
}
