//! What becomes of an UPDATE: received bytes into routes with the outcome that RFC 7606 asks for, and routes into bytes.
//!
//! `rustbgpd-wire` reads and writes the bytes. What is here is what they mean: which families count, what is mandatory,
//! which error costs what, and how many prefixes go into one message.

mod aigp;
mod decode;
mod encode;
mod foreign;
mod passed_on;
mod quote;
pub(crate) mod relayed;

#[cfg(test)]
pub(crate) use aigp::Aigp;
pub(crate) use decode::{Disposition, Import, Nlri, Reach, decode_update};
pub(crate) use encode::{EncodedAttributes, Export, encode_announcements, encode_end_of_rib, encode_withdrawals};
pub(crate) use passed_on::ReceivedAttributes;
