//! Bytes from the peer into inputs of the state machine.

use bytes::{Bytes, BytesMut};
use rustbgpd_wire::constants::{EXTENDED_MAX_MESSAGE_LEN, HEADER_LEN};
use rustbgpd_wire::notification::route_refresh_subcode;
use rustbgpd_wire::{Afi, Message, NotificationCode, RouteRefreshMessage, RouteRefreshSubtype, Safi, decode_message};

use super::framing::next_message;
use super::open::{malformed_open, negotiate};
use super::refresh::Refresh;
use super::state::{Event, State};
use super::{Context, Input, Peer};
use crate::notification::{HeaderError, Notification, header_notification};
use crate::refusal::quotation;
use crate::{ConnectionId, Family, SessionError};

impl Peer {
    pub(crate) fn handle_bytes(&mut self, context: &mut Context<'_>, id: ConnectionId, bytes: &[u8]) {
        if let Some(connection) = self.connection(id) {
            connection.input.extend_from_slice(bytes);
        }
        let offered = self.config.extended_messages;
        // A message may end the connection, so it is looked up for each.
        while let Some(connection) = self.connection(id)
            && connection.state != State::Connect
        {
            match next_message(&mut connection.input, offered) {
                Ok(None) => break,
                Ok(Some(message)) => {
                    self.messages_in += 1;
                    let input = self.interpret(message);
                    self.apply(context, id, input);
                }
                Err(error) => self.apply(context, id, invalid_header(error)),
            }
        }
        if let Some(connection) = self.connection(id)
            && connection.input.is_empty()
        {
            // What has been read is not needed again, and there may be hundreds of peers.
            connection.input = BytesMut::new();
        }
        self.settle(context);
    }

    /// One whole message. Its header has been judged; what can still be wrong is inside.
    fn interpret(&self, message: Bytes) -> Input {
        let mut unread = message.clone();
        let kind = message[18];
        match decode_message(&mut unread, EXTENDED_MAX_MESSAGE_LEN) {
            Ok(Message::Open(open)) => match negotiate(&open, &self.config) {
                Ok(negotiated) => Input::Open(negotiated),
                Err(error) => Input::Failed(Event::OpenInvalid, error.into()),
            },
            Ok(Message::Update(update)) => Input::Update(update),
            Ok(Message::Keepalive) => Input::Keepalive,
            Ok(Message::Notification(notification)) => Input::Failed(
                Event::Notification,
                SessionError::NotificationReceived {
                    notification: notification.into(),
                    local_asn: self.config.local_asn,
                },
            ),
            Ok(Message::RouteRefresh(refresh)) => route_refresh(&refresh, &message),
            Ok(_) => invalid_header(HeaderError::Type(kind)),
            Err(error) => match kind {
                1 => Input::Failed(Event::OpenInvalid, malformed_open(error).into()),
                2 => {
                    let (code, subcode, data) = error.to_notification();
                    let notification = Notification::new(code, subcode, data);
                    let octets = quotation(message.get(HEADER_LEN..).unwrap_or_default());
                    let error = SessionError::Update { notification, detail: error.to_string(), octets };
                    Input::Failed(Event::UpdateInvalid, error)
                }
                5 => invalid_refresh(&message, error.to_string()),
                _ => invalid_header(HeaderError::Length(u16::try_from(message.len()).unwrap_or(u16::MAX))),
            },
        }
    }
}

fn invalid_header(error: HeaderError) -> Input {
    let notification = header_notification(error);
    Input::Failed(Event::HeaderInvalid, SessionError::Header { notification, detail: error.to_string() })
}

fn route_refresh(refresh: &RouteRefreshMessage, message: &Bytes) -> Input {
    let family = match (Afi::from_u16(refresh.afi_raw), Safi::from_u8(refresh.safi_raw)) {
        (Some(afi), Some(safi)) => Family::from_wire(afi, safi),
        _ => None,
    };
    let kind: fn(Family) -> Refresh = match RouteRefreshSubtype::from_u8(refresh.subtype_raw) {
        RouteRefreshSubtype::BoRR | RouteRefreshSubtype::EoRR if message.len() != 23 => {
            return invalid_refresh(message, format!("{} octets instead of 23", message.len()));
        }
        RouteRefreshSubtype::Normal => Refresh::Request,
        RouteRefreshSubtype::BoRR => Refresh::Begin,
        RouteRefreshSubtype::EoRR => Refresh::End,
        // RFC 7313 section 5: subtypes that are not known are ignored.
        _ => return Input::RouteRefresh(Refresh::Unknown),
    };
    Input::RouteRefresh(family.map_or(Refresh::Unknown, kind))
}

/// RFC 7313 section 5: the message, as data, for the subtypes that it added; before it, just a message of a wrong length.
fn invalid_refresh(message: &Bytes, detail: String) -> Input {
    let notification = match message.get(21) {
        Some(1 | 2) => Notification::new(
            NotificationCode::RouteRefreshMessage,
            route_refresh_subcode::INVALID_MESSAGE_LENGTH,
            message.clone(),
        ),
        _ => header_notification(HeaderError::Length(u16::try_from(message.len()).unwrap_or(u16::MAX))),
    };
    Input::Failed(Event::RouteRefreshInvalid, SessionError::RouteRefresh { notification, detail })
}
