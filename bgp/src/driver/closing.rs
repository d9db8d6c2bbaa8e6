//! The end of a connection, such that the last message arrives.
//!
//! A socket that is closed with unread bytes in it answers with RST, and the RST may overtake the NOTIFICATION and take it
//! off the peer's receive queue. So the last bytes are written, our direction is shut down, and what the peer still sends
//! is read and thrown away until it has closed too, or for a moment.

use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tracing::debug;

/// How long a peer may take to read the last message and close.
const FAREWELL: Duration = Duration::from_millis(800);
/// So much is thrown away of what it still sends.
const MOST_DRAINED: usize = 1024 * 1024;

pub(super) async fn close(stream: Arc<TcpStream>, last: Vec<u8>) {
    match tokio::time::timeout(FAREWELL, say_farewell(&stream, &last)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "the last message may not have arrived"),
        Err(_) => debug!("the peer did not close its side"),
    }
}

async fn say_farewell(stream: &TcpStream, mut last: &[u8]) -> io::Result<()> {
    while !last.is_empty() {
        match stream.try_write(last) {
            Ok(count) => last = &last[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error),
        }
    }
    SockRef::from(stream).shutdown(Shutdown::Write)?;
    let mut buffer = vec![0; 16 * 1024];
    let mut drained = 0;
    while drained < MOST_DRAINED {
        stream.readable().await?;
        match stream.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => drained += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
