//! The small tasks around the engine: each waits for one thing, reports it and knows nothing.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tracing::error;

use super::neighbor::{self, Neighbor};
use super::socket;
use crate::bfd::BfdEvent;
use crate::{ConnectionId, PeerConfig, PeerKey};

/// What the small tasks report.
pub(super) enum Input {
    Accepted(TcpStream, SocketAddr),
    Dialled(ConnectionId, io::Result<TcpStream>),
    Bytes(ConnectionId, Bytes),
    /// The stream has ended, in order (`None`) or not.
    Closed(ConnectionId, Option<String>),
    /// A socket that was full takes bytes again.
    Writable(ConnectionId),
    /// News of the BFD session beside a peer's.
    Bfd(PeerKey, BfdEvent),
}

/// What a reader takes at once.
const READ_SIZE: usize = 16 * 1024;
/// The shortest time that a dial takes of which half is for hearing of the neighbour.
const HEARING: Duration = Duration::from_secs(2);

pub(super) async fn accept(listener: Arc<TcpListener>, inputs: mpsc::Sender<Input>) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                if inputs.send(Input::Accepted(stream, remote)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // Out of file descriptors, most likely: nothing tells when there are some again.
                error!(%error, "cannot accept connections");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

pub(super) async fn read(id: ConnectionId, stream: Arc<TcpStream>, inputs: mpsc::Sender<Input>) {
    let end = loop {
        if let Err(error) = stream.readable().await {
            break Some(error.to_string());
        }
        // Made anew each time, so that a peer that says nothing costs nothing.
        let mut buffer = BytesMut::with_capacity(READ_SIZE);
        match stream.try_read_buf(&mut buffer) {
            Ok(0) => break None,
            Ok(_) => {
                if inputs.send(Input::Bytes(id, at_its_length(buffer))).await.is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => break Some(error.to_string()),
        }
    };
    // The engine may have ended meanwhile.
    let _ = inputs.send(Input::Closed(id, end)).await;
}

/// What waits for the engine takes as much as it is long, and hundreds of peers may wait: not the room that there was for it.
fn at_its_length(read: BytesMut) -> Bytes {
    if read.len() < READ_SIZE / 2 { Bytes::copy_from_slice(&read) } else { read.freeze() }
}

/// `neighbor`: of an unnumbered peer, whose address has to be heard of first.
pub(super) async fn dial(
    id: ConnectionId,
    config: PeerConfig,
    neighbor: Option<watch::Receiver<Neighbor>>,
    inputs: mpsc::Sender<Input>,
) {
    let remote = match neighbor {
        // Less than what the engine gives a dial, so that the reason is heard before it is given up.
        Some(known) => {
            neighbor::address(known, config.transport.remote.port(), config.connect_retry.max(HEARING) / 2).await
        }
        None => Ok(config.transport.remote),
    };
    let result = match remote {
        Ok(remote) => socket::dial(&config, remote).await,
        Err(error) => Err(error),
    };
    // The engine may have ended meanwhile.
    let _ = inputs.send(Input::Dialled(id, result)).await;
}

pub(super) async fn wait_for_room(id: ConnectionId, stream: Arc<TcpStream>, inputs: mpsc::Sender<Input>) {
    if stream.writable().await.is_ok() {
        // The engine may have ended meanwhile.
        let _ = inputs.send(Input::Writable(id)).await;
    }
}
